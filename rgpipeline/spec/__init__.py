"""The job file: what a person asks for, validated before anything runs.

Layer 0. Every section is frozen and refuses unknown keys. `rgpipeline.jobfile` reads the YAML,
applies overrides and collects every fault into one message.
"""

from rgpipeline.spec.compute_spec import (
    EngineSpec,
    FaultsSpec,
    MeshSpec,
    ModelSpec,
    WorkersSpec,
    is_template_text,
)
from rgpipeline.spec.data_spec import Columns, InputSpec, OutputSpec
from rgpipeline.spec.job_spec import Job
from rgpipeline.spec.sampling_spec import Sampling
from rgpipeline.spec.spec_base import Spec

__all__ = [
    "Columns",
    "EngineSpec",
    "FaultsSpec",
    "InputSpec",
    "Job",
    "MeshSpec",
    "ModelSpec",
    "OutputSpec",
    "Sampling",
    "Spec",
    "WorkersSpec",
    "is_template_text",
]
