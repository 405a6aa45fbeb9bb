"""The Griffin model of arXiv:2402.19427: blocks, local attention, RG-LRU, RoPE.

No choice of a platform or a kernel is made here; those are in `model.ops`.
"""
