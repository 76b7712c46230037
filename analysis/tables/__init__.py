"""Tables, their renderings, and what stands below them."""
