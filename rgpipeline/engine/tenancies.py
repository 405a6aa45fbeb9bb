"""Tenancies as arrays over all slots: what a call to `assign` takes to the device."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import MAX_STOP_IDS, Tenancy
from rgpipeline.engine.sampling.sampler import IN_PROMPT

Settings = Mapping[str, NDArray[Any]]

_INT32_MAX = 2**31 - 1


def settings_arrays(
    slots: int, tenancies: Mapping[int, Tenancy | None]
) -> tuple[NDArray[np.bool_], Settings]:
    """Where the tenancies count (bool [s]), and their settings by the names of the state's fields.

    Axis 0 of every array is the slot; slots that are not named hold values nobody reads.
    """
    rows: list[Tenancy | None] = [tenancies.get(slot) for slot in range(slots)]

    def column(get: Callable[[Tenancy], Any], dtype: Any, other: Any = 0) -> NDArray[Any]:
        return np.asarray([other if row is None else get(row) for row in rows], dtype)

    none = (-1,) * MAX_STOP_IDS
    settings = {
        "token": column(lambda t: t.token, np.int32),
        "active": column(lambda t: True, np.bool_, False),
        "remaining": column(lambda t: t.remaining, np.int32),
        "banned_for": column(lambda t: t.banned_for, np.int32),
        "stop_ids": column(lambda t: (*t.stop_ids, *none)[:MAX_STOP_IDS], np.int32, none),
        "temperature": column(lambda t: t.sampling.temperature, np.float32),
        "top_k": column(lambda t: min(t.sampling.top_k, _INT32_MAX), np.int32),
        "top_p": column(lambda t: t.sampling.top_p, np.float32, 1.0),
        "min_p": column(lambda t: t.sampling.min_p, np.float32),
        "repetition": column(lambda t: t.sampling.repetition_penalty, np.float32, 1.0),
        "presence": column(lambda t: t.sampling.presence_penalty, np.float32),
        "frequency": column(lambda t: t.sampling.frequency_penalty, np.float32),
        "draw": column(lambda t: t.draw, np.uint32, (0, 0)),
    }
    return np.asarray([slot in tenancies for slot in range(slots)]), settings


def bias_row(tenancy: Tenancy, vocab: int) -> NDArray[np.float32]:
    """The tenancy's logit bias, [v]; empty if `vocab` is 0."""
    row = np.zeros((vocab,), np.float32)
    if vocab:
        for token, bias in tenancy.sampling.logit_bias.items():
            row[token] = bias
    return row


def seen_row(tenancy: Tenancy, vocab: int) -> NDArray[np.int32]:
    """The tenancy's token counts, as `SamplingState.seen` has them, [v]; empty if `vocab` is 0."""
    if vocab and tenancy.seen is not None:
        return tenancy.seen
    row = np.zeros((vocab,), np.int32)
    if vocab:
        row[tenancy.prompt] = IN_PROMPT
    return row
