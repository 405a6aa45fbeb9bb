"""Griffin: parameters, state, and the pure functions between them.

Layer 1. Imports jax, flax and `rgpipeline.errors`; knows nothing of slots, files of rows, or Ray.
"""
