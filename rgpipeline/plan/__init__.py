"""The plan of a job: its input files cut into shards, made once and kept beside the output.

Layer 4. Imports io and text; free of jax and Ray.
"""

from rgpipeline.plan.folder import open_or_create
from rgpipeline.plan.make import make_plan
from rgpipeline.plan.record import Plan
from rgpipeline.plan.settled import settle, settled

__all__ = ["Plan", "make_plan", "open_or_create", "settle", "settled"]
