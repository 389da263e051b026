"""Toy models with known truth, one file each."""
