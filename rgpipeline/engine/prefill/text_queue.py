"""Texts that are read once, in no slot, to score or to pool them: a queue, and its calls.

They are read in a buffer of their own, as prompts are. `text_cuts` says how they are cut and what
they share.
"""

from collections import deque
from collections.abc import Hashable
from itertools import islice
from typing import Generic

from rgpipeline.engine.api import Engine, Rows, State
from rgpipeline.engine.prefill.prefixes import PrefixCache
from rgpipeline.engine.prefill.text_cuts import prefixes_of, results_of, split_of
from rgpipeline.engine.prefill.text_parts import PartsCall, TextParts
from rgpipeline.engine.prefill.texts import (
    NOTHING,
    Asked,
    Completions,
    PackRow,
    SharedChunks,
    Text,
    TextCall,
)
from rgpipeline.engine.text_requests import TextRequest, TextResult

# Calls that the device may still work on while the next one is prepared.
_IN_FLIGHT = 1


class TextQueue(Generic[State, Rows]):
    """Texts that wait, those being read, and calls whose results are not read yet."""

    def __init__(self, engine: Engine[State, Rows], prefix_states: int) -> None:
        """`prefix_states`: states of shared beginnings to keep at most."""
        self._engine = engine
        self._prefix_states = prefix_states
        self._longest_chunk = max(size for _, size in engine.pack_shapes)
        self._shortest_chunk = min(size for _, size in engine.pack_shapes)
        self._waiting: deque[Text[Rows]] = deque()
        self._reading: dict[int, Text[Rows]] = {}  # by row of the buffer
        self._in_flight: deque[TextCall] = deque()
        self._finished: list[TextResult] = []  # of texts in which nothing is scored
        self._reset()

    @property
    def idle(self) -> bool:
        """True when `step` has nothing to do."""
        return not (self._waiting or self._reading or self._in_flight or self._finished)

    @property
    def waiting(self) -> int:
        """Texts not being read yet."""
        return len(self._waiting)

    @property
    def reading(self) -> int:
        """Texts being read."""
        return len(self._reading)

    @property
    def progress(self) -> tuple[int, int]:
        """(tokens read, tokens) of the texts that are being read."""
        return self._parts.progress

    @property
    def working_on(self) -> list[Hashable]:
        """Keys of the texts that the next `step` may work on."""
        free = self._engine.text_rows - len(self._reading)
        keys = [text.request.key for text in self._reading.values()]
        keys += [row.text.request.key for call in self._in_flight for row in call.rows]
        keys += [text.request.key for text in islice(self._waiting, free)]
        return list(dict.fromkeys(keys))

    def add(self, request: TextRequest) -> None:
        texts = request.completions()
        group = Completions[Rows]([None if results_of(text) else NOTHING for text in texts])
        for index, text in enumerate(texts):
            if results_of(text):
                self._waiting.append(self._buffered(text, group, index))
        if (whole := group.joined()) is not None:
            self._finished.append(TextResult(request.key, 0, *whole))

    def drop(self, key: Hashable | None = None) -> None:
        """Drops the text with this key, or all texts (None); nothing more of it is reported."""
        kept = deque[Text[Rows]]()
        for text in self._waiting:
            if key is None or text.request.key == key:
                self._prefixes.forget(text.prefixes, None)
            else:
                kept.append(text)
        self._waiting = kept
        in_flight = [row.text for call in self._in_flight for row in call.rows]
        for text in [*self._reading.values(), *in_flight]:
            text.dropped = text.dropped or key is None or text.request.key == key
        for text in [text for text in self._reading.values() if text.dropped]:
            self._parts.remove(text.row)
            self._leave(text)

    def step(self) -> list[TextResult]:
        """One call to the device; returns the results of the call before it."""
        results, self._finished = self._finished, []
        self._fill_buffer()
        call = self._parts.next_call()
        if call is not None:
            (self._read_first_parts if call.first_parts else self._dispatch)(call)
        while len(self._in_flight) > (0 if call is None or call.first_parts else _IN_FLIGHT):
            results += self._read(self._in_flight.popleft())
        if self.idle:
            self._reset()
        return results

    def _reset(self) -> None:
        """Frees the device's memory. The next text allocates it again."""
        self._buffer: Rows | None = None
        engine = self._engine
        self._parts = TextParts(engine.pack_shapes, engine.text_rows, engine.parts)
        self._prefixes = PrefixCache[SharedChunks[Rows]](self._longest_chunk, self._prefix_states)

    def _fill_buffer(self) -> None:
        """Gives free rows to waiting texts, and starts those that can start."""
        free = [row for row in range(self._engine.text_rows) if row not in self._reading]
        for row in _in_turns(free, self._engine.text_rows, self._engine.parts):
            if not self._waiting:
                break
            self._reading[row] = text = self._waiting.popleft()
            text.row = row
        for text in [text for text in self._reading.values() if text.blocked]:
            if text.follows:
                self._follow(text)
            elif self._prefixes.claim(text.prefixes, text.row):
                self._start(text, *self._prefixes.longest(text.prefixes))

    def _buffered(self, text: TextRequest, group: Completions[Rows], index: int) -> Text[Rows]:
        split = split_of(text, self._shortest_chunk)
        follows = split > 0 and any(one is None for one in group.results[:index])
        group.followers += follows
        prefixes = prefixes_of(text, self._longest_chunk, self._shortest_chunk)
        if len(group.results) > 1:  # others need the state at the split
            prefixes = [] if follows else [prefix for prefix in prefixes if prefix[0] <= split]
        expected = self._prefixes.expect(prefixes)
        return Text(text, group, index, split, expected, follows)

    def _follow(self, text: Text[Rows]) -> None:
        """Starts a completion whose prompt is read, if it is."""
        group = text.group
        if group.split is None:
            return
        self._start(text, text.split, group.split)
        group.followers -= 1
        if not group.followers:
            group.split = None

    def _start(self, text: Text[Rows], done: int, shared: SharedChunks[Rows] | None) -> None:
        """Has the text read from a state after `done` of its tokens, or from its beginning."""
        text.blocked, text.done = False, done
        shared = shared or self._uploaded(text)
        if shared is not None:
            text.chunk = shared.chunk
            self._share_split(text, shared)
            self._buffer = self._engine.write_row(self._allocated(), text.row, shared.rows)
        self._queue_part(text, fresh=shared is None)

    def _uploaded(self, text: Text[Rows]) -> SharedChunks[Rows] | None:
        """The state that the text continues, if there is one; kept if other texts continue it."""
        start = text.request.start
        if start is None or not start.arrays:
            return None
        shared = SharedChunks(self._engine.upload(start.arrays), None)
        if (prefix := self._prefixes.reached(text.prefixes, 0)) is not None:
            self._prefixes.keep(prefix, shared)
        return shared

    def _queue_part(self, text: Text[Rows], *, fresh: bool) -> None:
        first = text.done < text.split
        tokens = text.request.tokens[: text.split if first else text.inputs]
        self._parts.add(text.row, tokens, text.done, fresh, first=first)

    def _read_first_parts(self, call: PartsCall) -> None:
        self._engine.wait(self._allocated())  # nothing of this call is read: don't run ahead
        self._buffer = self._engine.prefill(self._allocated(), call.pack)
        for buffer_row, done in call.progress:
            text = self._reading[buffer_row]
            text.done = done
            self._continue(text)

    def _dispatch(self, call: PartsCall) -> None:
        pack_rows = {int(row): index for index, row in enumerate(call.pack.buffer_rows)}
        asked, used = Asked.nothing(call.pack.tokens.shape), []
        for buffer_row, done in call.progress:
            text, row = self._reading[buffer_row], pack_rows[buffer_row]
            chunk = text.read_to(done, asked, row)
            used.append(PackRow(row, text, chunk, last=done == text.inputs))
        self._buffer, hidden = self._engine.read(self._allocated(), call.pack)
        self._in_flight.append(TextCall(asked.start(hidden), used))
        for one in used:
            self._continue(one.text)

    def _continue(self, text: Text[Rows]) -> None:
        """Keeps the state after a chunk if it is shared, and queues what follows."""
        prefix = self._prefixes.reached(text.prefixes, text.done)
        followed = text.done == text.split and text.group.followers > 0
        if prefix is not None or followed:
            rows = self._engine.copy_row(self._allocated(), text.row)
            shared = SharedChunks(rows, text.chunk)
            self._share_split(text, shared)
            if prefix is not None:
                self._prefixes.keep(prefix, shared)
        if text.done == text.inputs:
            self._leave(text)
        elif text.done == text.split:
            self._queue_part(text, fresh=False)

    def _read(self, call: TextCall) -> list[TextResult]:
        """Waits for a call's results."""
        found, results = call.results.read(), []
        for row in call.rows:
            row.chunk.take(found, row.row)
            text = row.text
            if text.dropped:
                continue
            # The last result counts those that it shares with other texts, too.
            gained = text.results - text.reported if row.last else row.chunk.tokens
            text.reported += gained
            if row.last:
                text.group.results[text.index] = row.chunk.whole()
            whole = text.group.joined() if row.last else None
            results.append(TextResult(text.request.key, gained, *(whole or ())))
        return results

    def _share_split(self, text: Text[Rows], shared: SharedChunks[Rows]) -> None:
        """Lets the other completions start, if this is the state that they wait for."""
        if text.done == text.split and text.group.followers:
            text.group.split = shared

    def _leave(self, text: Text[Rows]) -> None:
        del self._reading[text.row]
        self._prefixes.forget(text.prefixes, text.row)

    def _allocated(self) -> Rows:
        if self._buffer is None:
            self._buffer = self._engine.init_text_buffer()
        return self._buffer


def _in_turns(rows: list[int], count: int, parts: int) -> list[int]:
    """Rows of `count` in such an order that their parts take turns."""
    size = count // parts
    return sorted(rows, key=lambda row: (row % size, row // size))
