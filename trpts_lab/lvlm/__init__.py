"""A tiny vision-language model that answers, and scenes whose questions say which image tokens
matter.
"""
