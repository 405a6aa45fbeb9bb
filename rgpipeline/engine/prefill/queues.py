"""Which prompt is read next, and which chunks go into the next prefill call. No device here.

A prompt of n tokens is cut at multiples of the longest chunk, and the rest into ever shorter
chunks: 100 tokens are 64, 32 and 4 of 16. So the cut depends on the prompt alone, and with it the
arithmetic.

The fullest call goes first, so that few rows are padding. Long prompts are an exception, because
each makes hundreds of calls while others wait: calls alternate between the oldest long prompt and
all others, and while sequences are decoded, long prompts get a share of the device.
"""

import heapq
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import PrefillPack
from rgpipeline.engine.sequence import Sequence
from rgpipeline.records import Request

# Decode steps that a chunk waits for others to fill its call, while every slot is taken. There must
# be a limit: the longest sequences are read first because they take longest. (Prompts and outputs
# of 16 to 512 tokens, 32 slots: with a limit of 32, the shortest chunks' calls are a fifth full;
# with 256 they are two fifths full, and there are a seventh fewer calls in all.)
MAX_WAIT_STEPS = 256

# A prompt with more chunks than this left to read is a long one.
LONG_CHUNKS = 32

# Tokens read of long prompts for each row of a decode step, while any sequence is decoded. A token
# read takes about as long as a row of a step, so decode gets at least a fifth of the device.
LONG_SHARE = 4

# What an unlimited sequence counts as: beyond every limit that a person would write.
_ENDLESS = 1 << 40

_Entry = tuple[int, int, int, Sequence]


class WaitingQueue:
    """Sequences without a row in the prefill buffer, the one with the most tokens to write first.

    A long sequence that starts last would leave one slot busy and the others idle at the end of a
    job. When the long ones start first, the short ones fill in around them. Of equal ones the
    longer prompt goes first, then the one that came first.
    """

    def __init__(self, long_tokens: int) -> None:
        """`long_tokens`: a prompt with more tokens is a long one."""
        self._long_tokens = long_tokens
        self._long: list[_Entry] = []  # a heap, as is the other
        self._short: list[_Entry] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._long) + len(self._short)

    def is_long(self, request: Request) -> bool:
        return request.snapshot is None and len(request.tokens) > self._long_tokens

    def add(self, sequence: Sequence) -> None:
        request = sequence.request
        limit = request.sampling.max_tokens
        work = _ENDLESS if limit is None else limit
        done = request.snapshot.generated if request.snapshot else 0
        heap = self._long if self.is_long(request) else self._short
        heapq.heappush(heap, (done - work, -len(request.tokens), self._arrivals, sequence))
        self._arrivals += 1

    def pop(self, long: bool = True) -> Sequence | None:
        """Removes and returns the first; `long`: it may have a long prompt."""
        heaps = [heap for heap in (self._short, self._long if long else []) if heap]
        if not heaps:
            return None
        return heapq.heappop(min(heaps, key=lambda heap: heap[0][:3]))[-1]

    def first(self, count: int) -> list[Hashable]:
        """Keys of those that `pop` may return next: `count` long ones and `count` short ones."""
        entries = [e for heap in (self._long, self._short) for e in heapq.nsmallest(count, heap)]
        return [sequence.request.key for *_, sequence in entries]

    def remove(self, key: Hashable) -> Sequence | None:
        """Removes and returns the sequence with this key, if it waits here."""
        for heap in (self._long, self._short):
            for index, (*_, sequence) in enumerate(heap):
                if sequence.request.key == key:
                    heap[index] = heap[-1]
                    heap.pop()
                    heapq.heapify(heap)
                    return sequence
        return None


@dataclass(slots=True)
class _Prompt:
    row: int  # of the buffer
    tokens: NDArray[np.int32]
    done: int
    fresh: bool
    waited: int = 0  # decode steps

    @property
    def left(self) -> int:
        return len(self.tokens) - self.done


_Rows = list[tuple[int, _Prompt]]  # of a pack: each row in use, with its prompt


class PrefillQueue:
    """Prompts in a prefill buffer that are not read to their end yet."""

    def __init__(
        self, pack_shapes: Iterable[tuple[int, int]], buffer_rows: int, parts: int = 1
    ) -> None:
        """`parts`: of the buffer's rows and of a pack's rows, see `api.Engine.parts`."""
        self._shapes = sorted(pack_shapes, key=lambda shape: -shape[1])
        self._buffer_rows = buffer_rows
        self._parts = parts
        self._prompts: list[_Prompt] = []
        self._long_tokens = LONG_CHUNKS * self._shapes[0][1]
        self._long_turns = 0  # calls for long prompts so far
        self._long_is_next = False
        self._long_calls = 1  # calls for long prompts that may be made before the next decode step

    def __len__(self) -> int:
        return len(self._prompts)

    @property
    def progress(self) -> tuple[int, int]:
        """(tokens read, tokens) of all prompts in the queue; any thread may ask."""
        prompts = list(self._prompts)
        return sum(p.done for p in prompts), sum(len(p.tokens) for p in prompts)

    def add(self, row: int, tokens: NDArray[np.int32], done: int, fresh: bool) -> None:
        """Queues a prompt that is in a row of the buffer.

        Args:
          row: of the buffer.
          tokens: [n], all that is to be read.
          done: how many of them the row's state has read; a multiple of the longest chunk.
          fresh: the row holds nothing of this prompt.
        """
        self._prompts.append(_Prompt(row, tokens, done, fresh))

    def remove(self, row: int) -> None:
        """Drops the prompt in a row, if there is one."""
        self._prompts = [prompt for prompt in self._prompts if prompt.row != row]

    def record_steps(self, steps: int, slots: int) -> None:
        """A block of `steps` decode steps of `slots` slots is dispatched."""
        for prompt in self._prompts:
            prompt.waited += steps
        rows, size = self._shapes[0]
        self._long_calls = max(1, LONG_SHARE * steps * slots // (rows * size))

    def next_pack(
        self, *, flush: bool, decoding: bool = False
    ) -> tuple[PrefillPack, list[tuple[int, int]]] | None:
        """The next call and, for each of its prompts, (buffer row, tokens read after it).

        None if no call is due: no pack is full, no chunk has waited for MAX_WAIT_STEPS, and not
        `flush` (a slot is empty). `decoding`: sequences wait for their next step.
        """
        long = [prompt for prompt in self._prompts if self._is_long(prompt)]
        short = [prompt for prompt in self._prompts if not self._is_long(prompt)]
        call = self._fullest([*short, *long], flush, short)
        if long and (call is None or self._long_is_next) and (self._long_calls or not decoding):
            call = self._long_call(long, short)
            self._long_is_next = False
            self._long_calls -= 1
        else:
            self._long_is_next = True
        return None if call is None else self._pack(*call)

    def _fullest(
        self, prompts: list[_Prompt], flush: bool, wanted: list[_Prompt]
    ) -> tuple[int, _Rows] | None:
        """The fullest call that is due and reads one of those `wanted`: its shape and its rows."""
        best: tuple[float, int, _Rows] | None = None
        among = set(map(id, wanted))
        for index, rows in enumerate(self._rows_by_shape(prompts)):
            if not any(id(prompt) in among for _, prompt in rows):
                continue
            fill = len(rows) / self._shapes[index][0]
            due = flush or fill == 1.0 or any(p.waited >= MAX_WAIT_STEPS for _, p in rows)
            if due and (best is None or fill > best[0]):
                best = (fill, index, rows)
        return None if best is None else best[1:]

    def _long_call(self, long: list[_Prompt], short: list[_Prompt]) -> tuple[int, _Rows]:
        """A call for the oldest long prompt or, in turn, for the one with fewest tokens left."""
        by_left = sorted(long, key=lambda prompt: prompt.left)
        leader = by_left[0] if self._long_turns % 2 else long[0]
        self._long_turns += 1
        others = [prompt for prompt in (*by_left, *short) if prompt is not leader]
        return 0, self._rows_by_shape([leader, *others])[0]

    def _is_long(self, prompt: _Prompt) -> bool:
        return prompt.left > self._long_tokens

    def _shape_of(self, prompt: _Prompt) -> int:
        shortest = self._shapes[-1][1]
        left = -(-max(1, prompt.left) // shortest) * shortest
        return next(index for index, (_, size) in enumerate(self._shapes) if size <= left)

    def _rows_by_shape(self, prompts: list[_Prompt]) -> list[_Rows]:
        """For each shape the rows of a call; prompts that come first in the list go first."""
        taken: Counter[tuple[int, int]] = Counter()
        found: list[_Rows] = [[] for _ in self._shapes]
        for prompt in prompts:
            index, part = self._shape_of(prompt), prompt.row * self._parts // self._buffer_rows
            rows = self._shapes[index][0] // self._parts
            if taken[index, part] < rows:
                found[index].append((part * rows + taken[index, part], prompt))
                taken[index, part] += 1
        return found

    def _pack(self, index: int, used: _Rows) -> tuple[PrefillPack, list[tuple[int, int]]]:
        rows, size = self._shapes[index]
        pack = PrefillPack(
            tokens=np.zeros((rows, size), np.int32),
            lengths=np.zeros((rows,), np.int32),
            buffer_rows=np.full((rows,), self._buffer_rows, np.int32),
            fresh=np.zeros((rows,), np.bool_),
        )
        progress = []
        for row, prompt in used:
            chunk = prompt.tokens[prompt.done : prompt.done + size]
            pack.tokens[row, : len(chunk)] = chunk
            pack.lengths[row] = len(chunk)
            pack.buffer_rows[row] = prompt.row
            pack.fresh[row] = prompt.fresh
            prompt.done += len(chunk)
            prompt.fresh, prompt.waited = False, 0
            progress.append((prompt.row, prompt.done))
        finished = {p.row for _, p in used if not p.left}
        self._prompts = [p for p in self._prompts if p.row not in finished]
        return pack, progress
