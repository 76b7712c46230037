"""Statistics of frames: numbers and frames only, no tables."""
