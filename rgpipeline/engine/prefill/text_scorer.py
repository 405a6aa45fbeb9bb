"""Log-probabilities of given texts, read in the packed chunks of prefill.

Texts are read in places of a stage of their own, as prompts are; how they are cut, and what they
share, is in `score_texts`.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import Engine, PendingScores, PrefillPack, Rows, State
from rgpipeline.engine.prefill.prefixes import (
    Piece,
    Prefix,
    PrefixCache,
    Reading,
    Shared,
    prefixes_of,
    split_of,
)
from rgpipeline.engine.prefill.queues import PrefillQueue
from rgpipeline.records import Scored, ScoreRequest

# Calls that the device may still work on while the next one is made ready.
_IN_FLIGHT = 1


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One row of a call that is in flight."""

    row: int
    reading: Reading
    piece: Piece
    scored: slice  # of the row's positions
    last: bool  # of its text


@dataclass(frozen=True, slots=True)
class _Call:
    scores: PendingScores
    chunks: list[_Chunk]


class Scoring(Generic[State, Rows]):
    """Texts that wait, those being read, and what the device has yet to answer."""

    def __init__(self, engine: Engine[State, Rows], prefix_states: int) -> None:
        """`prefix_states`: states of shared beginnings to keep at most."""
        self._engine = engine
        self._prefix_states = prefix_states
        self._chunk = max(size for _, size in engine.pack_shapes)
        self._least = min(size for _, size in engine.pack_shapes)
        self._waiting: deque[tuple[ScoreRequest, list[Prefix]]] = deque()
        self._blocked: list[Reading] = []  # waiting for a prefix that another text reads
        self._places: dict[int, Reading] = {}
        self._in_flight: deque[_Call] = deque()
        self._finished: list[Scored] = []  # nothing in them is scored
        self._reset()

    @property
    def idle(self) -> bool:
        """True when `step` has nothing to do."""
        return not (self._waiting or self._places or self._in_flight or self._finished)

    @property
    def waiting(self) -> int:
        """Texts not being read yet."""
        return len(self._waiting)

    @property
    def reading(self) -> int:
        """Texts being read."""
        return len(self._places)

    @property
    def progress(self) -> tuple[int, int]:
        """(tokens read, tokens) of the texts that are being read."""
        return self._queue.progress

    @property
    def working_on(self) -> list[Hashable]:
        """Keys of the texts that the next `step` may have to do with."""
        keys = [reading.text.key for reading in self._places.values()]
        keys += [c.reading.text.key for call in self._in_flight for c in call.chunks]
        keys += [text.key for text, _ in islice(self._waiting, self._free)]
        return list(dict.fromkeys(keys))

    def add(self, text: ScoreRequest) -> None:
        """Queues a text."""
        if text.first >= len(text.tokens):
            self._finished.append(Scored(text.key, 0, np.zeros((0,), np.float32)))
            return
        prefixes = prefixes_of(text, self._chunk, self._least)
        self._waiting.append((text, self._prefixes.expect_these(prefixes)))

    def drop(self, key: Hashable | None = None) -> None:
        """Forgets the text with this key, or all of them; nothing more of it is told."""
        kept = deque[tuple[ScoreRequest, list[Prefix]]]()
        for text, prefixes in self._waiting:
            if key is None or text.key == key:
                self._prefixes.forget(prefixes, None)
            else:
                kept.append((text, prefixes))
        self._waiting = kept
        in_flight = [chunk.reading for call in self._in_flight for chunk in call.chunks]
        for reading in [*self._places.values(), *in_flight]:
            reading.dropped = reading.dropped or key is None or reading.text.key == key
        for reading in [one for one in self._places.values() if one.dropped]:
            self._queue.remove(reading.place)
            self._leave(reading)

    def step(self) -> list[Scored]:
        """One call to the device; returns what the call before it brought."""
        told, self._finished = self._finished, []
        self._fill()
        call = self._queue.next_pack(hurry=True)
        if call is not None:
            self._in_flight.append(self._read(*call))
        while len(self._in_flight) > (_IN_FLIGHT if call is not None else 0):
            told += self._answered(self._in_flight.popleft())
        if self.idle:
            self._reset()
        return told

    def _reset(self) -> None:
        """Gives up the device's memory, which is taken again when texts come."""
        places = self._engine.score_staging
        self._stage: Rows | None = None
        self._queue = PrefillQueue(self._engine.pack_shapes, places, self._engine.parts)
        self._prefixes = PrefixCache[Shared[Rows]](self._chunk, self._prefix_states)

    @property
    def _free(self) -> int:
        return self._engine.score_staging - len(self._places)

    def _fill(self) -> None:
        """Gives free places to texts that wait, and begins those that can begin."""
        free = [p for p in range(self._engine.score_staging) if p not in self._places]
        for place in _in_turns(free, self._engine.score_staging, self._engine.parts):
            if not self._waiting:
                break
            text, prefixes = self._waiting.popleft()
            reading = Reading(text, place, split_of(text, self._least), prefixes)
            self._places[place] = reading
            self._blocked.append(reading)
        blocked, self._blocked = self._blocked, []
        for reading in blocked:
            if self._prefixes.claim(reading.prefixes, reading.place):
                self._begin(reading)
            else:
                self._blocked.append(reading)

    def _begin(self, reading: Reading) -> None:
        """Has the text read from where a known prefix ends."""
        reading.done, shared = self._prefixes.longest(reading.prefixes)
        if shared is not None:
            reading.piece = shared.piece
            self._stage = self._engine.put(self._staged(), reading.place, shared.rows)
        self._queue_part(reading, fresh=shared is None)

    def _queue_part(self, reading: Reading, *, fresh: bool) -> None:
        """Queues the part of the text that is next."""
        stop = reading.split if reading.done < reading.split else reading.inputs
        self._queue.add(reading.place, reading.text.tokens[:stop], reading.done, fresh)

    def _read(self, pack: PrefillPack, progress: list[tuple[int, int]]) -> _Call:
        """Gives a pack to the device."""
        rows = {int(place): row for row, place in enumerate(pack.places)}
        targets = np.full(pack.tokens.shape, -1, np.int32)
        chunks = []
        for place, done in progress:
            reading, row = self._places[place], rows[place]
            before, reading.done = reading.done, done
            begin = max(before, reading.text.first - 1)
            scored = slice(min(begin, done) - before, done - before)
            targets[row, scored] = reading.text.tokens[min(begin, done) + 1 : done + 1]
            reading.piece = Piece(reading.piece)
            last = done == reading.inputs
            chunks.append(_Chunk(row, reading, reading.piece, scored, last))
        self._stage, scores = self._engine.score(self._staged(), pack, targets)
        for chunk in chunks:
            self._go_on(chunk.reading)
        return _Call(scores, chunks)

    def _go_on(self, reading: Reading) -> None:
        """Keeps the state that a chunk led to if it is shared, and queues what follows."""
        prefix = self._prefixes.reached(reading.prefixes, reading.done)
        if prefix is not None and reading.piece is not None:
            rows = self._engine.extract(self._staged(), reading.place)
            self._prefixes.keep(prefix, Shared(rows, reading.piece))
        if reading.done == reading.inputs:
            self._leave(reading)
        elif reading.done == reading.split:
            self._queue_part(reading, fresh=False)

    def _answered(self, call: _Call) -> list[Scored]:
        """Waits for a call's scores."""
        found, told = call.scores.read(), []
        for chunk in call.chunks:
            chunk.piece.logprobs = found[chunk.row, chunk.scored]
            reading = chunk.reading
            if reading.dropped:
                continue
            gained = len(chunk.piece.logprobs)
            whole = chunk.piece.whole() if chunk.last else None
            if whole is not None:  # with what other texts have scored for it
                gained = len(whole) - reading.told
            reading.told += gained
            told.append(Scored(reading.text.key, gained, whole))
        return told

    def _leave(self, reading: Reading) -> None:
        del self._places[reading.place]
        self._blocked = [one for one in self._blocked if one is not reading]
        self._prefixes.forget(reading.prefixes, reading.place)

    def _staged(self) -> Rows:
        if self._stage is None:
            self._stage = self._engine.score_stage()
        return self._stage


def score_all(
    scoring: Scoring[State, Rows], texts: Sequence[NDArray[np.int32]]
) -> list[NDArray[np.float32]]:
    """Log-probability of each token given those before it, float32 [len - 1] for each text."""
    own = object()  # keeps these keys apart from anybody else's
    for index, text in enumerate(texts):
        scoring.add(ScoreRequest((own, index), text))
    found: dict[Hashable, NDArray[np.float32]] = {}
    while not scoring.idle:
        for scored in scoring.step():
            if scored.logprobs is not None:
                found[scored.key] = scored.logprobs
    return [found[own, index] for index in range(len(texts))]


def _in_turns(places: list[int], count: int, parts: int) -> list[int]:
    """Places of `count`, so that their parts take turns."""
    size = count // parts
    return sorted(places, key=lambda place: (place % size, place // size))
