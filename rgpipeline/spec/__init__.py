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
from rgpipeline.spec.input_spec import Columns, InputSpec, SpecialTokens
from rgpipeline.spec.job_spec import Job, OutputSpec
from rgpipeline.spec.sampling_spec import MAX_LOGPROBS, Sampling, openai_names
from rgpipeline.spec.spec_base import NamedUrl, Spec, facts_of
from rgpipeline.spec.structured_spec import StructuredOutputs, parsed_schema, schema_text

__all__ = [
    "MAX_LOGPROBS",
    "Columns",
    "EngineSpec",
    "FaultsSpec",
    "InputSpec",
    "Job",
    "MeshSpec",
    "ModelSpec",
    "NamedUrl",
    "OutputSpec",
    "Sampling",
    "Spec",
    "SpecialTokens",
    "StructuredOutputs",
    "WorkersSpec",
    "facts_of",
    "is_template_text",
    "openai_names",
    "parsed_schema",
    "schema_text",
]
