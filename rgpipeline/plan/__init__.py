"""The plan of a job: its input files cut into shards, made once and kept beside the output.

Layer 4. Imports io, text and tasks; no jax, no Ray.
"""

from rgpipeline.plan.plan_files import open_or_create
from rgpipeline.plan.plan_record import Plan
from rgpipeline.plan.planner import make_plan
from rgpipeline.plan.resolved_settings import record_settings, recorded_settings

__all__ = ["Plan", "make_plan", "open_or_create", "record_settings", "recorded_settings"]
