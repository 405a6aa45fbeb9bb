"""What the loop asks of an engine: operations on states that are handed back each time.

Free of jax: numpy and records at the boundary, so that a fake engine can be worked out by hand.
An engine's states are opaque to the loop and immutable to it: an operation that changes one takes
it, may reuse its memory (the one passed in must not be read again), and returns the next.

There are two. Sequences are decoded in slots, plain ints in [0, slots). Prompts are read in the
places of the stage, ints in [0, staging), whether or not a slot is free: so a prefill call can wait
for company while all slots decode. What a prompt leads to is copied from its place into a slot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.slot_fields import SamplingFeatures, SlotParams
from rgpipeline.records import TokenLogprobs

State = TypeVar("State")
Rows = TypeVar("Rows")

UNLIMITED = -1

# Codes in `DecodedBlock.codes`, one for each step and slot.
IDLE, GOES_ON, STOPPED, LAST, FAILED = -1, 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class PrefillPack:
    """Chunks of several prompts, prefilled by one call. Rows beyond those in use have length 0."""

    tokens: NDArray[np.int32]  # [r, t]
    lengths: NDArray[np.int32]  # [r], tokens of the row that count
    places: NDArray[np.int32]  # [r], `engine.staging` (out of range) for rows not in use
    fresh: NDArray[np.bool_]  # [r], the chunk is the first of its prompt


@dataclass(frozen=True, slots=True)
class DecodedBlock:
    """What k decode steps brought, on the host."""

    tokens: NDArray[np.int32]  # [k, s]
    # [k, s]: IDLE, GOES_ON, STOPPED (token not part of it), LAST, FAILED (logits not finite)
    codes: NDArray[np.int8]
    logprobs: TokenLogprobs | None  # [k, s, ...], when the features ask for it


class PendingBlock(Protocol):
    """A block that the device may still be working on."""

    def read(self) -> DecodedBlock:
        """Waits for the device and brings the block to the host."""
        ...


class PendingScores(Protocol):
    """Scores that the device may still be working on."""

    def read(self) -> NDArray[np.float32]:
        """Waits for the device; [r, t], of which only what was asked for counts."""
        ...


class Engine(Protocol[State, Rows]):
    """A model in a fixed number of slots; `Rows` are states of sequences that are in none.

    Only `wait` and the `read` of what is pending wait for the device.
    """

    @property
    def slots(self) -> int:
        """Sequences decoded at once."""
        ...

    @property
    def staging(self) -> int:
        """Prompts that may be read at once, beside the slots."""
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
        """Parts of equal size that slots and places are in, and so the rows of a prefill pack.

        Each is on a chip of its own: a place's chunk must be in a row of the place's part.
        """
        ...

    def init(self, features: SamplingFeatures) -> State:
        """All slots empty and idle, able to sample with `features`."""
        ...

    def widen(self, state: State, features: SamplingFeatures) -> State:
        """The same state, able to sample with `features` as well."""
        ...

    def stage(self) -> Rows:
        """The stage, all of its places empty."""
        ...

    def prefill(self, stage: Rows, pack: PrefillPack) -> Rows:
        """Continues each row's place by its chunk."""
        ...

    def assign(self, state: State, params: Mapping[int, SlotParams | None]) -> State:
        """Starts decoding in slots that are ready, or (None) makes slots idle."""
        ...

    def decode(
        self, state: State, features: SamplingFeatures, steps: int
    ) -> tuple[State, PendingBlock]:
        """A block of `steps` for all slots; idle slots' states stay as they are, bit for bit.

        `features`: those that the state was last made or widened for.
        """
        ...

    def seat(self, state: State, slot: int, stage: Rows, place: int) -> State:
        """Copies what is in a place into an idle slot of the same part."""
        ...

    def extract(self, stage: Rows, place: int) -> Rows:
        """A copy of what is in one place, left on the device."""
        ...

    def put(self, stage: Rows, place: int, rows: Rows) -> Rows:
        """Puts a copied state into a place."""
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

    def wait(self, stage: Rows) -> None:
        """Waits until the device has done all that was asked of it for these states."""
        ...

    @property
    def score_staging(self) -> int:
        """Texts that may be scored at once, each in a place of `score_stage`."""
        ...

    def score_stage(self) -> Rows:
        """A stage of its own for scoring, all of its places empty."""
        ...

    def score(
        self, stage: Rows, pack: PrefillPack, targets: NDArray[np.int32]
    ) -> tuple[Rows, PendingScores]:
        """`prefill` for a stage of `score_stage`, with log-probabilities.

        `targets` [r, t]: for each position the token whose log-probability, given all up to that
        position, is wanted; -1 for none.
        """
        ...
