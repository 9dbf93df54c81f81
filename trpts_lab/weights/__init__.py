"""The laboratory's own backbone: formula-driven images and the pre-training on them."""
