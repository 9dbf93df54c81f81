"""A tiny vision-language model, and scenes whose questions say which image tokens matter."""
