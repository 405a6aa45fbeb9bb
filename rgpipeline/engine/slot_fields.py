"""What the device keeps for each slot beside the model's state: one table, `SlotFields`.

An entry says an array's dtype, shape, sharding, whether it is allocated only when a request needs
it, whether a snapshot holds it, and how a request fills it. All other code goes through the table,
so a new array is one entry here and its use in the sampler.

Free of jax: `slot_state` makes the arrays.
"""

# ruff: noqa: RUF009  (the table's entries are dataclass fields, made by helpers)
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.spec import Sampling

if TYPE_CHECKING:
    from jax import Array

MAX_STOP_IDS = 16
IN_PROMPT = 1 << 30  # added to a token's count in `seen` if the prompt has the token

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SamplingFeatures:
    """What a compiled sampler can do. A batch that needs less gets a program that costs less."""

    draws: bool = False  # any temperature above 0
    truncates: bool = False  # top-k, top-p or min-p
    penalties: bool = False  # repetition, presence or frequency
    bias: bool = False
    bans: bool = False  # min_tokens: stop ids can't be drawn at first
    logprobs: int = 0  # 0 none, 1 the sampled token's, k > 1 also the k most probable

    @property
    def read_logits(self) -> bool:
        """Whether the sampler needs the logits, not only a draw from the model's distribution."""
        return self.adjust_logits or self.truncates or self.logprobs > 0

    @property
    def adjust_logits(self) -> bool:
        """Whether some slots' logits are changed before temperature and truncation."""
        return self.penalties or self.bias or self.bans

    def __or__(self, other: SamplingFeatures) -> SamplingFeatures:
        return SamplingFeatures(
            **{f.name: max(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        )

    @classmethod
    def of(cls, sampling: Sampling) -> SamplingFeatures:
        """The features that one request needs."""
        return cls(
            draws=sampling.temperature > 0,
            truncates=bool((sampling.temperature > 0) & truncates(sampling)),
            penalties=bool(penalizes(sampling)),
            bias=bool(sampling.logit_bias),
            bans=sampling.min_tokens > 0,
            logprobs=sampling.logprobs,
        )

    @classmethod
    def union(cls, samplings: Iterable[Sampling]) -> SamplingFeatures:
        """The features that all of these need together."""
        return reduce(or_, map(cls.of, samplings), cls())


def truncates(settings: Any) -> Any:
    """Whether tokens are cut off: of a `Sampling`, or of each slot in `SlotFields`."""
    return (settings.top_k > 0) | (settings.top_p < 1) | (settings.min_p > 0)


def penalizes(settings: Any) -> Any:
    """Whether tokens seen before are penalized: of a `Sampling`, or of each slot."""
    return (
        (settings.repetition_penalty != 1)
        | (settings.presence_penalty != 0)
        | (settings.frequency_penalty != 0)
    )


@dataclass(frozen=True, slots=True)
class SlotParams:
    """What a slot needs to start decoding, beside the model state."""

    prompt: NDArray[np.int32]  # [n]
    sampling: Sampling
    draw: tuple[int, int]  # two 32-bit words that key the slot's random bits
    remaining: int  # tokens to sample at most; negative is without limit
    banned_for: int = 0  # steps during which stop ids can't be drawn (min_tokens)
    stop_ids: tuple[int, ...] = ()  # end-of-sequence included unless it is ignored
    snapshot: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)  # its arrays

    @property
    def token(self) -> int:
        """The first input of decode."""
        return int(self.snapshot["token"] if self.snapshot else self.prompt[-1])


@dataclass(frozen=True, slots=True)
class SlotField:
    """An entry of the table."""

    dtype: type[np.generic]
    fill: Callable[[SlotParams, Shape], Any]  # the slot's row, given its shape
    shape: Callable[[int], Shape] = lambda vocab: ()  # beside the slot axis
    idle: float = 0  # in slots that no sequence has had yet
    # Allocated from the first request on that needs this feature (a bool of SamplingFeatures);
    # until then, its shape beside the slot axis is zeros. None: always allocated.
    feature: str | None = None
    # On several chips: divided by slots among all chips, or only among groups of chips, so that
    # every chip of a group has the group's rows.
    by_chip: bool = False
    in_snapshot: bool = False  # under the field's name, and filled from there

    def row_shape(self, vocab: int, features: SamplingFeatures) -> Shape:
        shape = self.shape(vocab)
        if self.feature is not None and not getattr(features, self.feature):
            return (0,) * len(shape)
        return shape

    def row(self, name: str, params: SlotParams, shape: Shape) -> NDArray[Any]:
        """The row of a sequence that starts to decode."""
        if 0 in shape:
            return np.zeros(shape, self.dtype)
        restored = params.snapshot.get(name) if self.in_snapshot else None
        value = self.fill(params, shape) if restored is None else restored
        return np.asarray(value, self.dtype)


def _entry(dtype: type[np.generic], fill: Callable[[SlotParams, Shape], Any], **more: Any) -> Any:
    return field(metadata={"entry": SlotField(dtype, fill, **more)})


def _setting(dtype: type[np.generic], name: str, idle: float = 0) -> Any:
    """A number that is a field of `Sampling`."""
    most = np.iinfo(dtype).max if issubclass(dtype, np.integer) else np.inf
    return _entry(dtype, lambda params, _: min(getattr(params.sampling, name), most), idle=idle)


def _padded_stop_ids(params: SlotParams, shape: Shape) -> NDArray[np.int32]:
    row = np.full(shape, -1, np.int32)
    row[: len(params.stop_ids)] = params.stop_ids
    return row


def _bias(params: SlotParams, shape: Shape) -> NDArray[np.float32]:
    row = np.zeros(shape, np.float32)
    for token, bias in params.sampling.logit_bias.items():
        row[token] = bias
    return row


def _seen(params: SlotParams, shape: Shape) -> NDArray[np.int32]:
    row = np.zeros(shape, np.int32)
    row[params.prompt] = IN_PROMPT
    return row


@dataclass(frozen=True)
class SlotFields:
    """The table, and a pytree of its arrays. Axis 0 of every array is the slot."""

    token: Array = _entry(np.int32, lambda params, _: params.token, in_snapshot=True)  # next input
    active: Array = _entry(np.bool_, lambda params, _: True)  # decoding
    remaining: Array = _entry(np.int32, lambda params, _: params.remaining)
    banned_for: Array = _entry(np.int32, lambda params, _: params.banned_for)
    stop_ids: Array = _entry(  # -1 is none
        np.int32, _padded_stop_ids, shape=lambda vocab: (MAX_STOP_IDS,), idle=-1
    )
    temperature: Array = _setting(np.float32, "temperature")  # 0 is greedy
    top_k: Array = _setting(np.int32, "top_k")  # 0 keeps all
    top_p: Array = _setting(np.float32, "top_p", idle=1)
    min_p: Array = _setting(np.float32, "min_p")
    repetition_penalty: Array = _setting(np.float32, "repetition_penalty", idle=1)
    presence_penalty: Array = _setting(np.float32, "presence_penalty")
    frequency_penalty: Array = _setting(np.float32, "frequency_penalty")
    draw: Array = _entry(np.uint32, lambda params, _: params.draw, shape=lambda vocab: (2,))
    logit_bias: Array = _entry(
        np.float32, _bias, shape=lambda vocab: (vocab,), feature="bias", by_chip=True
    )
    seen: Array = _entry(  # times a token was generated, plus IN_PROMPT
        np.int32,
        _seen,
        shape=lambda vocab: (vocab,),
        feature="penalties",
        by_chip=True,
        in_snapshot=True,
    )


ENTRIES: Mapping[str, SlotField] = {f.name: f.metadata["entry"] for f in fields(SlotFields)}
BY_CHIP = frozenset(name for name, entry in ENTRIES.items() if entry.by_chip)
ON_DEMAND = tuple(name for name, entry in ENTRIES.items() if entry.feature is not None)


def rows_of(
    count: int, params: Mapping[int, SlotParams | None]
) -> tuple[NDArray[np.bool_], Mapping[str, NDArray[Any]]]:
    """The rows of slots that change, for all fields that are always allocated.

    Args:
      count: slots.
      params: by slot; None makes a slot idle.

    Returns:
      Which slots change, bool [s], and the arrays by name, [s, ...]. Rows of other slots mean
      nothing.
    """
    chosen = np.asarray([slot in params for slot in range(count)])
    arrays: dict[str, NDArray[Any]] = {}
    for name, entry in ENTRIES.items():
        if entry.feature is None:
            shape = entry.shape(0)
            arrays[name] = np.full((count, *shape), entry.idle, entry.dtype)
            for slot, one in params.items():
                if one is not None:
                    arrays[name][slot] = entry.row(name, one, shape)
    return chosen, arrays
