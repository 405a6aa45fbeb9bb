"""What the loop asks of an engine: six operations on a state that is handed back each time.

Free of jax: numpy and records at the boundary, so that a fake engine can be worked out by hand.
An engine's state is opaque to the loop and immutable to it: every operation takes the state,
may reuse its memory (the one passed in must not be read again), and returns the next.
Slots are plain ints in [0, slots), whatever the layout below.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.features import SamplingFeatures
from rgpipeline.records import TokenLogprobs
from rgpipeline.spec import Sampling

State = TypeVar("State")
Rows = TypeVar("Rows")

MAX_STOP_IDS = 16
UNLIMITED = -1

# Codes in `DecodedBlock.codes`, one for each step and slot.
IDLE, GOES_ON, STOPPED, LAST = -1, 0, 1, 2


@dataclass(frozen=True, slots=True)
class PrefillPack:
    """Chunks of several prompts, prefilled by one call. Rows beyond those in use have length 0."""

    tokens: NDArray[np.int32]  # [r, t]
    lengths: NDArray[np.int32]  # [r], tokens of the row that count
    slots: NDArray[np.int32]  # [r], `engine.slots` (out of range) for rows not in use
    fresh: NDArray[np.bool_]  # [r], the chunk is the first of its prompt


@dataclass(frozen=True, slots=True)
class Tenancy:
    """What a slot needs to start decoding, beside the state its prefill left there."""

    token: int  # the last token of the prompt: the first input of decode
    remaining: int  # tokens to sample at most, or UNLIMITED
    banned_for: int  # steps during which stop ids can't be drawn (min_tokens)
    stop_ids: tuple[int, ...]  # end-of-sequence included unless it is ignored
    sampling: Sampling
    draw: tuple[int, int]
    prompt: NDArray[np.int32]  # for the repetition penalty
    seen: NDArray[np.int32] | None = None  # [v], a snapshot's token counts


@dataclass(frozen=True, slots=True)
class DecodedBlock:
    """What k decode steps brought, on the host."""

    tokens: NDArray[np.int32]  # [k, s]
    codes: NDArray[np.int8]  # [k, s]: IDLE, GOES_ON, STOPPED (token not part of it), LAST
    logprobs: TokenLogprobs | None  # [k, s, ...], when the features ask for it


class PendingBlock(Protocol):
    """A block that the device may still be working on."""

    def read(self) -> DecodedBlock:
        """Waits for the device and brings the block to the host."""
        ...


class Engine(Protocol[State, Rows]):
    """A model in a fixed number of slots. Only `wait`, `score` and a block's `read` wait."""

    @property
    def slots(self) -> int:
        """Sequences decoded at once."""
        ...

    @property
    def steps(self) -> int:
        """Decode steps in a block: always, unless any number up to it will do."""
        ...

    @property
    def vocab_size(self) -> int:
        """Token ids are in [0, vocab_size)."""
        ...

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end a sequence unless `ignore_eos`."""
        ...

    @property
    def pack_shapes(self) -> Sequence[tuple[int, int]]:
        """(rows, tokens) of the prefill programs, longest chunk first."""
        ...

    @property
    def parts(self) -> int:
        """Parts of equal size that the slots are in, and so the rows of a prefill pack.

        Each is on a chip of its own: a slot's chunk must be in a row of the slot's part.
        """
        ...

    def init(self, features: SamplingFeatures) -> State:
        """All slots empty and idle, able to sample with `features`."""
        ...

    def widen(self, state: State, features: SamplingFeatures) -> State:
        """The same state, able to sample with `features` as well."""
        ...

    def prefill(self, state: State, pack: PrefillPack) -> State:
        """Continues each row's slot by its chunk. The slots must not be decoding."""
        ...

    def assign(self, state: State, tenancies: Mapping[int, Tenancy | None]) -> State:
        """Starts decoding in slots that are ready, or (None) makes slots idle."""
        ...

    def decode(
        self, state: State, features: SamplingFeatures, steps: int
    ) -> tuple[State, PendingBlock]:
        """A block of `steps` for all slots; idle slots' states stay as they are, bit for bit.

        `features`: those that the state was last made or widened for.
        """
        ...

    def extract(self, state: State, slot: int) -> Rows:
        """A copy of one slot's model state, left on the device."""
        ...

    def insert(self, state: State, slot: int, rows: Rows) -> State:
        """Puts a copied state into an idle slot."""
        ...

    def download(self, state: State, slot: int) -> Mapping[str, NDArray[np.generic]]:
        """Everything of one decoding slot, for a snapshot (waits for the device when read)."""
        ...

    def upload(self, arrays: Mapping[str, NDArray[np.generic]]) -> Rows:
        """The model state in a snapshot's arrays.

        Raises:
          ValueError: the arrays are not of this model or these settings.
        """
        ...

    def wait(self, state: State) -> None:
        """Waits until the device has done all that was asked of it."""
        ...

    def score(
        self, texts: Sequence[NDArray[np.int32]], scored: Callable[[int, int], None]
    ) -> list[NDArray[np.float32]]:
        """Log-probability of each token given those before it, [len - 1] for each text.

        Calls `scored(text, tokens)` whenever the device has scored so many more tokens of a text.
        """
        ...
