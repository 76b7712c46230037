"""The benchmark: this program beside a plain PyTorch loop and the floor of both."""
