"""Training of packs: optimizer, epochs, checkpoints."""
