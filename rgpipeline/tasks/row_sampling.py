"""A row's own sampling, in place of the job's."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from rgpipeline.errors import RowError
from rgpipeline.jobfile import spec_faults
from rgpipeline.spec import Sampling
from rgpipeline.wording import kind_of

# Parameters that may be null, such as `max_tokens` without a limit.
_NULLABLE = [
    name for name, info in Sampling.model_fields.items() if type(None) in get_args(info.annotation)
]


def row_sampling(base: Sampling, overrides: object, column: str = "sampling") -> Sampling:
    """`base` with a row's overrides: an object of sampling keys, or that as JSON text.

    A null, and a key whose value is null, override nothing: in a struct every row has all keys.
    In JSON text, null is a value of the parameters that have it: `max_tokens: null` is no limit.
    Raises RowError naming the key at fault.
    """
    given = _as_mapping(overrides, column)
    if not given:
        return base
    try:
        sampling = Sampling.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise RowError("; ".join(spec_faults(error, Sampling, column))) from error
    structured = sampling.structured_outputs
    if structured is not None and structured.address is not None:
        raise RowError(
            f"{column}.structured_outputs.json: {kind_of(structured.json)} that is no JSON; a row "
            f"gives its schema as an object or as JSON text, for files are read for jobs only"
        )
    if base.logprobs == 1 and sampling.logprobs > 1:
        raise RowError(
            f"{column}.logprobs: {sampling.logprobs} does not fit into the job's column, which "
            f"holds the sampled token's alone; set sampling.logprobs of the job to 2 or more"
        )
    return sampling


def _as_mapping(overrides: object, column: str) -> Mapping[str, Any]:
    if overrides is None:
        return {}
    if isinstance(overrides, str):
        return _parse(overrides, column)
    if isinstance(overrides, Mapping):
        return _given(overrides)
    if isinstance(overrides, Sequence) and {tuple} == set(map(type, overrides)):
        return _given(dict(overrides))  # a map, as Arrow gives it
    raise RowError(
        f"{column!r} holds {kind_of(overrides)}; an object of sampling keys, or that as JSON "
        f"text, is needed"
    )


def _given(overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys that have a value; likewise the token ids in `logit_bias`."""
    given = {key: value for key, value in overrides.items() if value is not None}
    bias = given.get("logit_bias")
    if isinstance(bias, Mapping):  # a struct has the token ids of all rows
        given["logit_bias"] = {token: add for token, add in bias.items() if add is not None}
    return given


def _parse(text: str, column: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise RowError(f"{column!r} holds text that is not JSON ({error})") from error
    if not isinstance(value, Mapping):
        raise RowError(f"{column!r} holds JSON that is not an object of sampling keys")
    nulls = {name: None for name in _NULLABLE if value.get(name, 0) is None}
    return {**_given(value), **nulls}
