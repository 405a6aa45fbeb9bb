"""Pallas kernels for TPUs and GPUs, where XLA's own fusions are bound by memory or by latency.

Each has a plain counterpart in `model.layers` and gives the same numbers, up to rounding. Its
module's `select` returns it, or None for shapes and settings that it can't do; `model.ops` and the
engine's sampler call `select`.
"""
