"""Runs a job on a Ray cluster: placement, the driver's shell, workers as actors, metrics.

Layer 5, and the only package that imports ray.
"""

from rgpipeline.runtime.launch import run

__all__ = ["run"]
