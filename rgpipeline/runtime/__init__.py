"""Many workers on a Ray cluster: placement, the driver's shell, metrics.

Layer 4, and the only place that imports ray.
"""

from rgpipeline.runtime.launch import run

__all__ = ["run"]
