"""What the loop asks of an engine: operations on states, which return the next state.

Free of jax: numpy and records at the boundary, so that tests can use a fake engine. The loop never
looks into a state. An operation that changes one takes it and may reuse its memory: the one passed
in must not be read again.

There are two kinds. Sequences are decoded in slots, ints in [0, slots). Prompts are read in the
rows of a prefill buffer, ints in [0, prefill_rows), whether or not a slot is free: so a prefill
call can wait for more prompts while all slots decode. The state of a prompt is then copied from its
row into a slot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.decoded import PendingBlock, PendingStep
from rgpipeline.engine.slot_fields import SamplingFeatures, SlotParams
from rgpipeline.engine.text_requests import TokenScores
from rgpipeline.read_texts import StateKind

State = TypeVar("State")
Rows = TypeVar("Rows")

UNLIMITED = -1


@dataclass(frozen=True, slots=True)
class PrefillPack:
    """Chunks of several prompts, read by one call. Rows that are not in use have length 0."""

    tokens: NDArray[np.int32]  # [r, t]
    lengths: NDArray[np.int32]  # [r], tokens of the row that count
    buffer_rows: NDArray[np.int32]  # [r], `prefill_rows` (out of range) for rows not in use
    fresh: NDArray[np.bool_]  # [r], the chunk is the first of its prompt


class PendingValues(Protocol):
    """Values that the device may still be working on."""

    def read(self) -> NDArray[np.float32]:
        """Waits for the device and copies them to the host."""
        ...


class PendingScores(Protocol):
    """Scores that the device may still be working on."""

    def read(self) -> TokenScores:
        """Waits for the device; [r, t], with values only where there is a target."""
        ...


class Hidden(Protocol):
    """The final hidden values of a pack's positions, on the device."""

    def log_probabilities(self, targets: NDArray[np.int32]) -> PendingScores:
        """Log-probabilities of tokens, and whether each is the most probable.

        `targets` [r, t]: for each position the token whose log-probability, given all tokens up to
        that position, is wanted; -1 for none.
        """
        ...

    def sums(self, counted: NDArray[np.bool_]) -> PendingValues:
        """For each row the sum of its hidden values over the positions `counted`, [r, width].

        `counted` [r, t].
        """
        ...


class Engine(Protocol[State, Rows]):
    """A model in a fixed number of slots. `Rows` are states of sequences without a slot.

    Only `wait` and the `read` of pending results wait for the device.
    """

    @property
    def slots(self) -> int:
        """Sequences decoded at once."""
        ...

    @property
    def prefill_rows(self) -> int:
        """Rows of the prefill buffer: prompts read at once."""
        ...

    @property
    def steps(self) -> int:
        """Decode steps of a block; at most, if it may have any number of them."""
        ...

    @property
    def vocab_size(self) -> int:
        """Token ids are in [0, vocab_size)."""
        ...

    @property
    def width(self) -> int:
        """Length of a position's hidden values."""
        ...

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end a sequence unless `ignore_eos`."""
        ...

    @property
    def state_kind(self) -> StateKind:
        """What the states of this engine are of."""
        ...

    @property
    def pack_shapes(self) -> Sequence[tuple[int, int]]:
        """(rows, tokens) of the prefill programs, longest chunk first."""
        ...

    @property
    def parts(self) -> int:
        """Parts of equal size that slots, buffer rows and the rows of a pack are in.

        Each part is on a chip of its own. A chunk must be in the same part of the pack as its row
        in the buffer.
        """
        ...

    def init(self, features: SamplingFeatures) -> State:
        """All slots empty and idle, able to sample with `features`."""
        ...

    def widen(self, state: State, features: SamplingFeatures) -> State:
        """The same state, able to sample with `features` as well."""
        ...

    def assign(self, state: State, params: Mapping[int, SlotParams | None]) -> State:
        """Starts to decode in slots that have a model state, or (None) makes slots idle."""
        ...

    def decode(
        self, state: State, features: SamplingFeatures, steps: int
    ) -> tuple[State, PendingBlock]:
        """A block of `steps` for all slots; the states of idle slots don't change in any bit.

        `features`: those that the state was last made or widened for.
        """
        ...

    def forward(self, state: State) -> tuple[State, PendingStep[State]]:
        """The first half of a step; `draw` must follow, with only `assign` between."""
        ...

    def init_prefill_buffer(self) -> Rows:
        """The prefill buffer, all of its rows empty."""
        ...

    def prefill(self, buffer: Rows, pack: PrefillPack) -> Rows:
        """Reads each chunk into its row of the buffer."""
        ...

    def insert(self, state: State, slot: int, buffer: Rows, row: int) -> State:
        """Copies a row of the buffer into an idle slot of the same part."""
        ...

    def copy_row(self, buffer: Rows, row: int) -> Rows:
        """A copy of one row of a buffer, on the device."""
        ...

    def write_row(self, buffer: Rows, row: int, copied: Rows) -> Rows:
        """Writes a copied row into a row of a buffer."""
        ...

    def restore(self, state: State, slot: int, copied: Rows) -> State:
        """Writes a copied or uploaded row into an idle slot."""
        ...

    def download(self, state: State, slot: int) -> Mapping[str, NDArray[np.generic]]:
        """All that a decoding slot holds, for a snapshot; reading it waits for the device."""
        ...

    def download_row(self, copied: Rows) -> Mapping[str, NDArray[np.generic]]:
        """The arrays of a copied row, by name; reading them waits for the device."""
        ...

    def upload(self, arrays: Mapping[str, NDArray[np.generic]]) -> Rows:
        """The model state in the arrays of `download` or `download_row`.

        Raises:
          ValueError: the arrays are not of this model or these settings.
        """
        ...

    def wait(self, buffer: Rows) -> None:
        """Waits until the device has finished all work on a buffer."""
        ...

    @property
    def text_rows(self) -> int:
        """Rows of the buffer for texts: texts read at once."""
        ...

    def init_text_buffer(self) -> Rows:
        """A buffer for texts, all of its rows empty."""
        ...

    def read(self, buffer: Rows, pack: PrefillPack) -> tuple[Rows, Hidden]:
        """`prefill` for a buffer for texts, which also returns the hidden values."""
        ...
