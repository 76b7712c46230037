"""What is speed and not mathematics: compilation, CUDA graphs, memory, GPU settings."""
