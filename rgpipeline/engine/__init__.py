"""Slots on the device: prefill, decode, sampling, and the loop that keeps them busy.

Layer 2. Imports jax and `rgpipeline.model`; knows requests and tokens, no files, no Ray.
"""
