"""The published numbers, and tables of ours beside them."""
