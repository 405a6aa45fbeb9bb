"""A request's way through the engine, and who has which slot: pure bookkeeping, no device.

Tokens are read one block late. They are credited to the sequence that had the slot when the block
was dispatched, never to the slot: by then another sequence may have it.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import UNLIMITED
from rgpipeline.engine.checks import NO_NUMBERS
from rgpipeline.engine.decoded import FAILED, IDLE, LAST, STOPPED, DecodedBlock, PendingBlock
from rgpipeline.engine.grammar_protocol import Matcher
from rgpipeline.engine.prefill.prefixes import Prefix
from rgpipeline.engine.step_tuner import DEFAULT_TOKENS
from rgpipeline.read_texts import ReadText
from rgpipeline.records import Emission, FinishReason, Request, Snapshot, TokenLogprobs

NO_TOKENS = np.zeros((0,), np.int32)

# In a snapshot of a sequence with a grammar: its tokens since its row began, int32 [m].
GENERATED = "generated"


class SequenceStatus(Enum):
    """Where a sequence is, in the order of its way; it can be FINISHED after any of them."""

    WAITING = auto()  # in the queue, without a row in the prefill buffer
    BLOCKED_ON_PREFIX = auto()  # in a row; another sequence prefills a prefix that it shares
    PREFILLING = auto()  # in a row; its prompt is being read
    READY = auto()  # in a row; its state is there, and only a slot is missing
    DECODING = auto()  # in a slot
    FULLY_DISPATCHED = auto()  # out of its slot; its last tokens are still to be read
    FINISHED = auto()  # ended or cancelled: tokens that come later are dropped


@dataclass(slots=True, eq=False)
class Sequence:
    """One request in the engine."""

    request: Request
    prefixes: list[Prefix]
    status: SequenceStatus = SequenceStatus.WAITING
    row: int = -1  # of the prefill buffer, from BLOCKED_ON_PREFIX to READY
    slot: int = -1  # from DECODING on
    generated: int = 0  # tokens sampled here, as far as the host has read
    dispatched: int = 0  # steps dispatched
    wants_snapshot: bool = False
    boundary: int = 0  # tokens of the prompt's whole chunks, see `read_boundary`
    kept: ReadText | None = None  # what was read there, to be emitted; maybe still on the device
    matcher: Matcher | None = None  # its position in its grammar, once it has a slot
    text: list[int] = field(default_factory=list)  # if it has a grammar: `GENERATED`

    @property
    def prefill_tokens(self) -> int:
        """All tokens but the last, which is the first input of decode; else the whole chunks."""
        return self.boundary if self.only_reads else len(self.request.tokens) - 1

    @property
    def only_reads(self) -> bool:
        """Nothing is to be generated."""
        return self.request.sampling.max_tokens == 0

    def take_kept(self) -> ReadText | None:
        """What was read of the prompt, the first time; it waits for the device."""
        kept, self.kept = self.kept, None
        return None if kept is None else on_host(kept)

    @property
    def limit(self) -> int:
        """Tokens that may be sampled here, or UNLIMITED."""
        limit = self.request.sampling.max_tokens
        if limit is None:
            return UNLIMITED
        return limit - (self.request.snapshot.generated if self.request.snapshot else 0)

    @property
    def finished(self) -> bool:
        return self.status is SequenceStatus.FINISHED

    def finish(self) -> None:
        """From now on, tokens that come for it are dropped."""
        self.status = SequenceStatus.FINISHED

    def record_tokens(self, tokens: NDArray[np.int32]) -> None:
        """Counts tokens that were read."""
        self.generated += len(tokens)
        if self.matcher is not None:
            self.text.extend(tokens.tolist())

    def record_dispatch(self, steps: int) -> bool:
        """Counts steps; True if the limit is reached with them, whatever they bring."""
        self.dispatched += steps
        if self.limit == UNLIMITED or self.dispatched < self.limit:
            return False
        self.status = SequenceStatus.FULLY_DISPATCHED
        return True


@dataclass(slots=True)
class IndexPool:
    """Numbers [0, count), each free or taken: the slots, or the rows of a prefill buffer.

    They are in `parts` of equal size: [0, count / parts) is the first.
    """

    count: int
    parts: int = 1
    _taken: dict[int, Sequence] = field(default_factory=dict)
    _free: list[list[int]] = field(default_factory=list)  # of each part

    def __post_init__(self) -> None:
        size = self.count // self.parts
        firsts = range(0, size * self.parts, size)
        self._free = [list(range(first + size - 1, first - 1, -1)) for first in firsts]

    def __len__(self) -> int:
        return len(self._taken)

    def __iter__(self) -> Iterator[Sequence]:
        """Those that have one, the oldest first."""
        return iter(list(self._taken.values()))

    def find(self, key: Hashable) -> Sequence | None:
        """The one whose request has this key."""
        return next((one for one in self if one.request.key == key), None)

    def __getitem__(self, index: int) -> Sequence:
        return self._taken[index]

    @property
    def free(self) -> int:
        return sum(map(len, self._free))

    def free_in(self, part: int) -> int:
        return len(self._free[part])

    def part_of(self, index: int) -> int:
        return index * self.parts // self.count

    def take(self, sequence: Sequence, part: int) -> int:
        index = self._free[part].pop()
        self._taken[index] = sequence
        return index

    def release(self, index: int, sequence: Sequence) -> None:
        """Frees it, if the sequence still has it."""
        if self._taken.get(index) is sequence:
            del self._taken[index]
            self._free[self.part_of(index)].append(index)


@dataclass(frozen=True, slots=True)
class InFlight:
    """A dispatched block, and the sequences that had the slots."""

    block: PendingBlock
    steps: int
    prefills: int  # prefill calls made before it was dispatched
    masked: bool  # a step of two programs
    sequences: list[Sequence]
    snapshots: Mapping[int, Mapping[str, NDArray[np.generic]]]  # by slot

    @property
    def tokens(self) -> float:
        """Average length of its sequences, if all reach their limits."""
        limits = (one.limit for one in self.sequences)
        return mean(DEFAULT_TOKENS if limit == UNLIMITED else limit for limit in limits)


class BlockRead:
    """A decoded block, slot by slot.

    What each slot gained is computed for all slots at once: 256 numpy calls would take longer than
    everything else that the host does for a block.
    """

    def __init__(self, block: DecodedBlock) -> None:
        codes = block.codes
        emitted = (codes != IDLE) & (codes != STOPPED) & (codes != FAILED)
        self._tokens = block.tokens.T.copy()  # [s, k]
        self._logprobs = block.logprobs
        self._emitted: list[int] = np.count_nonzero(emitted, axis=0).tolist()
        self._stopped: list[bool] = (codes == STOPPED).any(axis=0).tolist()
        self._last: list[bool] = (codes == LAST).any(axis=0).tolist()
        self._failed: list[bool] = (codes == FAILED).any(axis=0).tolist()

    def emission(
        self, sequence: Sequence, arrays: Mapping[str, NDArray[np.generic]] | None
    ) -> Emission:
        """The sequence's tokens in the block; they are added to its count.

        `arrays`: its state after the block, if a snapshot was asked for. A sequence that ended gets
        no snapshot.
        """
        slot, key = sequence.slot, sequence.request.key
        if self._failed[slot]:
            return Emission(key, self._tokens[slot, :0], "error", error=NO_NUMBERS)
        emitted, finish = self._emitted[slot], self._finish(slot)
        tokens = self._tokens[slot, :emitted]
        sequence.record_tokens(tokens)
        return Emission(
            key=key,
            token_ids=tokens,
            finish=finish,
            logprobs=self._logprobs_of(slot, emitted, sequence.request.sampling.logprobs),
            snapshot=None if arrays is None or finish is not None else snapshot(sequence, arrays),
            read=sequence.take_kept(),
        )

    def _finish(self, slot: int) -> FinishReason | None:
        if self._stopped[slot]:
            return "stop"
        return "length" if self._last[slot] else None

    def _logprobs_of(self, slot: int, emitted: int, wanted: int) -> TokenLogprobs | None:
        if not wanted or self._logprobs is None:
            return None
        top = wanted if wanted > 1 else 0
        return TokenLogprobs(
            sampled=self._logprobs.sampled[:emitted, slot].copy(),
            top_ids=self._logprobs.top_ids[:emitted, slot, :top].copy(),
            top=self._logprobs.top[:emitted, slot, :top].copy(),
        )


def on_host(read: ReadText) -> ReadText:
    """The same, with its arrays on the host."""
    return replace(read, arrays={name: np.asarray(leaf) for name, leaf in read.arrays.items()})


def snapshot(sequence: Sequence, arrays: Mapping[str, NDArray[np.generic]]) -> Snapshot:
    """The sequence's state after the tokens counted for it (waits for the device)."""
    before = sequence.request.snapshot.generated if sequence.request.snapshot else 0
    read = {name: np.asarray(value) for name, value in arrays.items()}
    if sequence.matcher is not None:
        read[GENERATED] = np.asarray(sequence.text, np.int32)
    return Snapshot(arrays=read, generated=before + sequence.generated)
