"""The ablation runner: cells into packs, packs onto Ray, progress, resume."""
