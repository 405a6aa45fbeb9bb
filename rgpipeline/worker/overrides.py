"""A row's own sampling, merged over the job's."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from rgpipeline.errors import RowError
from rgpipeline.jobfile import spec_faults
from rgpipeline.spec import Sampling


def merged(base: Sampling, overrides: object, column: str = "sampling") -> Sampling:
    """`base` with a row's overrides: a struct, a map (list of pairs) or a JSON text of its keys.

    Null is no override. In a struct or map a null field isn't one either, for every row has all
    of them; in JSON text it is the value null (`max_tokens`: no limit). Raises RowError naming
    the key at fault.
    """
    given = _as_mapping(overrides, column)
    if not given:
        return base
    try:
        sampling = Sampling.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise RowError("; ".join(spec_faults(error, Sampling, column))) from error
    if base.logprobs == 1 and sampling.logprobs > 1:
        raise RowError(
            f"{column}.logprobs: {sampling.logprobs} has no place in the job's column, which holds "
            f"the sampled token's alone; set sampling.logprobs of the job to 2 or more"
        )
    return sampling


def _as_mapping(overrides: object, column: str) -> Mapping[str, Any]:
    if overrides is None:
        return {}
    if isinstance(overrides, str):
        return _parse(overrides, column)
    if isinstance(overrides, Mapping):
        return {key: value for key, value in overrides.items() if value is not None}
    if isinstance(overrides, Sequence) and all(isinstance(pair, tuple) for pair in overrides):
        return {key: value for key, value in overrides if value is not None}
    raise RowError(f"{column!r} holds a {type(overrides).__name__}; an object of keys is expected")


def _parse(text: str, column: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise RowError(f"{column!r} holds text that is not JSON ({error})") from error
    if not isinstance(value, Mapping):
        raise RowError(f"{column!r} holds JSON that is not an object of sampling keys")
    return value
