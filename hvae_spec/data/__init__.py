"""Data sets: where they come from, and how gray values become batches of observations."""
