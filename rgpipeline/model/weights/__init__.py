"""Checkpoints: opening, checking, loading (with int8 quantization) and writing them."""
