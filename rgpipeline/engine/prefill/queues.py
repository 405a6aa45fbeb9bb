"""Which prompts' chunks go into the next prefill call: pure bookkeeping, no device.

A prompt of n tokens is cut at multiples of the longest chunk, and what is left into ever shorter
chunks: 100 tokens are 64, 32 and 4 of 16. So the cut depends on the prompt alone, and with it the
arithmetic.

The fullest call goes first, so that few rows are padding. Long prompts are an exception, since each
would make hundreds of calls while others wait: calls alternate between the oldest long prompt and
all others, and while sequences are decoded, long prompts get a share of the device.
"""

import heapq
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import PrefillPack
from rgpipeline.engine.prefill.prefixes import Prefix
from rgpipeline.records import Request

# Decode steps that a chunk waits for company in its pack, while every slot has something to do. It
# must not be overtaken for ever: the longest sequences are read first because they take longest.
PATIENCE = 32

# Chunks left to read that make a prompt a long one.
LONG_CHUNKS = 32

# Tokens read of long prompts for each row of a decode step, while any sequence is decoded: a token
# read and a row of a step take about as long, so decode gets a fifth of the device at least.
LONG_SHARE = 4


@dataclass(slots=True)
class _Prompt:
    place: int
    tokens: NDArray[np.int32]
    done: int
    fresh: bool
    waited: int = 0  # decode steps


_Seated = list[tuple[int, _Prompt]]  # each with its row


class PrefillQueue:
    """Prompts on the stage, not prefilled to their end yet."""

    def __init__(self, pack_shapes: Sequence[tuple[int, int]], places: int, parts: int = 1) -> None:
        """`places` of the stage; `parts` of them and of rows, see `api.Engine.parts`."""
        self._shapes = sorted(pack_shapes, key=lambda shape: -shape[1])
        self._places = places
        self._parts = parts
        self._prompts: list[_Prompt] = []
        self._long_tokens = LONG_CHUNKS * self._shapes[0][1]
        self._long_turns = 0  # calls that long prompts got
        self._long_is_next = False
        self._long_calls = 1  # that they may still get before the next decode step

    def __len__(self) -> int:
        return len(self._prompts)

    @property
    def progress(self) -> tuple[int, int]:
        """(tokens read, tokens) of all prompts in it; other threads may ask, too."""
        prompts = list(self._prompts)
        return sum(p.done for p in prompts), sum(len(p.tokens) for p in prompts)

    def add(self, place: int, tokens: NDArray[np.int32], done: int, fresh: bool) -> None:
        """`tokens` [n] is all there is to prefill; the first `done` of them already are.

        `done` is a multiple of the longest chunk. `fresh`: the place holds nothing of this prompt.
        """
        self._prompts.append(_Prompt(place, tokens, done, fresh))

    def remove(self, place: int) -> None:
        """Forgets the prompt in `place`, if there is one."""
        self._prompts = [prompt for prompt in self._prompts if prompt.place != place]

    def wait(self, steps: int, slots: int) -> None:
        """So many decode steps of so many slots go by."""
        for prompt in self._prompts:
            prompt.waited += steps
        rows, size = self._shapes[0]
        self._long_calls = max(1, LONG_SHARE * steps * slots // (rows * size))

    def next_pack(
        self, *, hurry: bool, decoding: bool = False
    ) -> tuple[PrefillPack, list[tuple[int, int]]] | None:
        """The next call and, for each of its prompts, (place, tokens prefilled after it).

        None when nothing is worth a call yet: no pack is full, no chunk has waited long, and
        there is no hurry (no slot is empty). `decoding`: sequences wait for their next step.
        """
        long = [prompt for prompt in self._prompts if self._is_long(prompt)]
        short = [prompt for prompt in self._prompts if not self._is_long(prompt)]
        call = self._best([*short, *long], hurry, short)
        if long and (call is None or self._long_is_next) and (self._long_calls or not decoding):
            call = self._long_call(long, short)
            self._long_is_next = False
            self._long_calls -= 1
        else:
            self._long_is_next = True
        return None if call is None else self._pack(*call)

    def _best(
        self, prompts: list[_Prompt], hurry: bool, wanted: list[_Prompt]
    ) -> tuple[int, _Seated] | None:
        """The fullest call that is due and reads any of those wanted: its shape, and the rows."""
        best: tuple[float, int, _Seated] | None = None
        among = set(map(id, wanted))
        for index, seated in enumerate(self._seated(prompts)):
            if not any(id(prompt) in among for _, prompt in seated):
                continue
            fill = len(seated) / self._shapes[index][0]
            due = hurry or fill == 1.0 or any(p.waited >= PATIENCE for _, p in seated)
            if due and (best is None or fill > best[0]):
                best = (fill, index, seated)
        return None if best is None else best[1:]

    def _long_call(self, long: list[_Prompt], short: list[_Prompt]) -> tuple[int, _Seated]:
        """A call for the oldest long prompt or, in turn, for the one with fewest tokens left."""
        by_left = sorted(long, key=self._left)
        leader = by_left[0] if self._long_turns % 2 else long[0]
        self._long_turns += 1
        others = [prompt for prompt in (*by_left, *short) if prompt is not leader]
        return 0, self._seated([leader, *others])[0]

    def _left(self, prompt: _Prompt) -> int:
        return len(prompt.tokens) - prompt.done

    def _is_long(self, prompt: _Prompt) -> bool:
        return self._left(prompt) > self._long_tokens

    def _shape_of(self, prompt: _Prompt) -> int:
        shortest = self._shapes[-1][1]
        left = max(1, self._left(prompt))
        left = -(-left // shortest) * shortest
        return next(index for index, (_, size) in enumerate(self._shapes) if size <= left)

    def _seated(self, prompts: list[_Prompt]) -> list[_Seated]:
        """For each shape, the prompts for a call of it, those named first served first."""
        taken: Counter[tuple[int, int]] = Counter()
        seated: list[_Seated] = [[] for _ in self._shapes]
        for prompt in prompts:
            index, part = self._shape_of(prompt), prompt.place * self._parts // self._places
            rows = self._shapes[index][0] // self._parts
            if taken[index, part] < rows:
                seated[index].append((part * rows + taken[index, part], prompt))
                taken[index, part] += 1
        return seated

    def _pack(self, index: int, seated: _Seated) -> tuple[PrefillPack, list[tuple[int, int]]]:
        rows, size = self._shapes[index]
        pack = PrefillPack(
            tokens=np.zeros((rows, size), np.int32),
            lengths=np.zeros((rows,), np.int32),
            places=np.full((rows,), self._places, np.int32),
            fresh=np.zeros((rows,), np.bool_),
        )
        progress = []
        for row, prompt in seated:
            chunk = prompt.tokens[prompt.done : prompt.done + size]
            pack.tokens[row, : len(chunk)] = chunk
            pack.lengths[row] = len(chunk)
            pack.places[row] = prompt.place
            pack.fresh[row] = prompt.fresh
            prompt.done += len(chunk)
            prompt.fresh, prompt.waited = False, 0
            progress.append((prompt.place, prompt.done))
        finished = {p.place for _, p in seated if p.done == len(p.tokens)}
        self._prompts = [p for p in self._prompts if p.place not in finished]
        return pack, progress


# What an unlimited sequence counts as; beyond every limit a person would write.
_ENDLESS = 1 << 40


_Entry = tuple[int, int, int, Request, list[Prefix]]


class Waiting:
    """Requests not admitted yet, longest work first, then in the order they came."""

    def __init__(self, long_tokens: int) -> None:
        """`long_tokens`: prompts of more tokens are long ones."""
        self._long_tokens = long_tokens
        self._long: list[_Entry] = []  # a heap, as is the other
        self._short: list[_Entry] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._long) + len(self._short)

    def is_long(self, request: Request) -> bool:
        """Whether the request has a long prompt to read."""
        return request.snapshot is None and len(request.tokens) > self._long_tokens

    def add(self, request: Request, prefixes: list[Prefix]) -> None:
        """Queues a request."""
        limit = request.sampling.max_tokens
        work = _ENDLESS if limit is None else limit
        done = request.snapshot.generated if request.snapshot else 0
        order = (done - work, -len(request.tokens), self._arrivals)
        heap = self._long if self.is_long(request) else self._short
        heapq.heappush(heap, (*order, request, prefixes))
        self._arrivals += 1

    def pop(self, long: bool = True) -> tuple[Request, list[Prefix]] | None:
        """The request with the most tokens to go, of those with a short prompt if not `long`."""
        heaps = [heap for heap in (self._short, self._long if long else []) if heap]
        if not heaps:
            return None
        *_, request, prefixes = heapq.heappop(min(heaps, key=lambda heap: heap[0][:3]))
        return request, prefixes

    def first(self, count: int) -> list[Hashable]:
        """Keys of those that `pop` may hand out next: so many of either kind."""
        entries = [e for heap in (self._long, self._short) for e in heapq.nsmallest(count, heap)]
        return [entry[-2].key for entry in entries]

    def remove(self, key: Hashable) -> list[Prefix] | None:
        """Drops a request that waits; returns its prefixes, or None if it doesn't wait."""
        for heap in (self._long, self._short):
            for index, (*_, request, prefixes) in enumerate(heap):
                if request.key == key:
                    heap[index] = heap[-1]
                    heap.pop()
                    heapq.heapify(heap)
                    return prefixes
        return None
