"""Many workers on a Ray cluster: placement, the driver's shell, progress.

Layer 4, and the only place that imports ray.
"""
