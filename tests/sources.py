"""A model's source in few words, for tests that open a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rgpipeline.model.weights.model_source import ModelSource, resolve_source
from rgpipeline.spec import ModelSpec


def source(
    weights: str | Path,
    dtype: str = "auto",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    **model: Any,
) -> ModelSource:
    """`model`: other keys of the section; `options`: fsspec's, by protocol."""
    fields = {"weights": str(weights), "dtype": dtype, **model}
    return resolve_source(ModelSpec.model_validate(fields), options)
