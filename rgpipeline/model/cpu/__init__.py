"""Implementations that XLA's CPU backend runs faster, or runs at all; `model.ops` chooses them."""
