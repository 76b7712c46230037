"""Packs at work: on Ray or in this process, and what becomes of them."""
