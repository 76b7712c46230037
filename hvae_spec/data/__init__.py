"""Data sets: where they come from, and how grey values become batches of observations."""
