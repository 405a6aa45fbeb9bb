"""From waiting to decoding: prompts are read in the prefill buffer, then their states go to slots.

A state comes from a snapshot, from a prefix that another prompt shares, or from prefill; usually
from the last two, one after the other. Prompts are read before slots are free, so that a slot need
not wait for a prefill call, nor a call for a slot.
"""

from collections.abc import Hashable
from typing import Generic

import numpy as np

from rgpipeline.engine.api import Engine, Rows, State
from rgpipeline.engine.prefill.kept_reads import KeptReads, start_of
from rgpipeline.engine.prefill.prefixes import PrefixCache
from rgpipeline.engine.prefill.queues import LONG_CHUNKS, PrefillQueue, WaitingQueue
from rgpipeline.engine.sequence import IndexPool, Sequence, SequenceStatus
from rgpipeline.read_texts import read_boundary
from rgpipeline.records import Emission, Request

_BLOCKED = SequenceStatus.BLOCKED_ON_PREFIX
_PREFILLING = SequenceStatus.PREFILLING
_READY = SequenceStatus.READY


class Admission(Generic[State, Rows]):
    """The sequences that have no slot yet."""

    def __init__(self, engine: Engine[State, Rows], slots: IndexPool, prefix_states: int) -> None:
        self._engine = engine
        self._slots = slots
        self._waiting = WaitingQueue(LONG_CHUNKS * max(size for _, size in engine.pack_shapes))
        self._rows = IndexPool(engine.prefill_rows, engine.parts)
        self._ready: list[Sequence] = []  # the first that became ready is first
        self._read: list[Sequence] = []  # those that only read, and have
        self._kept = KeptReads(engine)
        self._buffer: Rows | None = None
        self._queue = PrefillQueue(engine.pack_shapes, engine.prefill_rows, engine.parts)
        self._prefix_states = prefix_states
        self._prefixes = self._new_prefix_cache()

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._rows)

    @property
    def progress(self) -> tuple[int, int]:
        """(tokens read, tokens) of the prompts that are being read."""
        return self._queue.progress

    @property
    def prefilling(self) -> list[Hashable]:
        """Keys of the sequences in the buffer, and of those that may get a row of it soon.

        These are all whose prompts may be read before another block is decoded.
        """
        room = self._slots.free + self._rows.free
        in_buffer = [sequence.request.key for sequence in self._rows]
        return in_buffer + (self._waiting.first(room) if room else [])

    def add(self, request: Request) -> None:
        sequence = Sequence(request, [])
        sequence.boundary = read_boundary(
            len(request.tokens), self._engine.state_kind.prefill_chunk
        )
        if request.snapshot is None:
            tokens = request.tokens[: sequence.prefill_tokens]
            sequence.prefixes = self._prefixes.expect_prompt(tokens, start_of(request.start))
        self._waiting.add(sequence)

    def drop(self, key: Hashable) -> None:
        """Drops the sequence if it has no slot yet."""
        waiting = self._waiting.remove(key)
        if waiting is not None:
            self._prefixes.forget(waiting.prefixes, None)
        in_buffer = self._rows.find(key)
        if in_buffer is not None:
            self._leave(in_buffer)

    def drop_all(self) -> None:
        """Drops every sequence that has no slot yet."""
        while (waiting := self._waiting.pop()) is not None:
            self._prefixes.forget(waiting.prefixes, None)
        for sequence in self._rows:
            self._leave(sequence)

    def release_buffer(self) -> None:
        """Frees the device's memory if no sequence needs it. The next one allocates it again."""
        if not self.waiting:
            self._buffer = None
            self._prefixes = self._new_prefix_cache()

    def insert(self, state: State) -> tuple[State, list[Sequence]]:
        """Fills free slots with sequences that are ready; returns those that got one."""
        inserted = []
        self._fill_buffer()
        while (sequence := self._next_ready()) is not None:
            row = sequence.row
            sequence.slot = slot = self._slots.take(sequence, self._rows.part_of(row))
            sequence.status = SequenceStatus.DECODING
            snapshot = sequence.request.snapshot
            if snapshot is None:
                state = self._engine.insert(state, slot, self._allocated(), row)
            else:
                rows = self._engine.upload(snapshot.arrays)
                state = self._engine.restore(state, slot, rows)
            self._ready.remove(sequence)
            self._rows.release(row, sequence)
            inserted.append(sequence)
            self._fill_buffer()
        return state, inserted

    def prefill(self) -> bool:
        """Makes one prefill call, if one is due; False if none is."""
        slots = self._slots
        call = self._queue.next_pack(flush=slots.free > 0, decoding=len(slots) > 0)
        if call is None:
            return False
        pack, progress = call
        self._buffer = self._engine.prefill(self._allocated(), pack)
        for row, done in progress:
            sequence = self._rows[row]
            prefix = self._prefixes.reached(sequence.prefixes, done)
            if prefix is not None:
                self._prefixes.keep(prefix, self._engine.copy_row(self._allocated(), row))
            if done == sequence.boundary:
                self._keep_read(sequence)
            if done == sequence.prefill_tokens:
                self._prefixes.forget(sequence.prefixes, row)
                self._set_ready(sequence)
        return True

    def take_read(self) -> list[Emission]:
        """The ends of sequences that only read, and have done so; it waits for the device."""
        read, self._read = self._read, []
        nothing = np.zeros((0,), np.int32)
        return [Emission(s.request.key, nothing, "length", read=s.take_kept()) for s in read]

    def record_steps(self, steps: int) -> None:
        """A block of this many decode steps is about to be dispatched."""
        self._queue.record_steps(steps, self._slots.count)

    def wait(self) -> None:
        """Waits until the device has read everything that it was given to read."""
        if self._buffer is not None:
            self._engine.wait(self._buffer)

    def _allocated(self) -> Rows:
        if self._buffer is None:
            self._buffer = self._engine.init_prefill_buffer()
        return self._buffer

    def _new_prefix_cache(self) -> PrefixCache[Rows]:
        return PrefixCache(max(size for _, size in self._engine.pack_shapes), self._prefix_states)

    def _fill_buffer(self) -> None:
        """Gives free rows to waiting sequences, and starts those in the buffer that can start."""
        while self._rows.free and (sequence := self._waiting.pop(self._room_for_long())):
            sequence.row = self._rows.take(sequence, self._emptiest_part())
            sequence.status = _BLOCKED
        for sequence in self._rows:
            if sequence.status is not _BLOCKED:
                continue
            if sequence.request.snapshot is not None:
                self._set_ready(sequence)
            elif self._prefixes.claim(sequence.prefixes, sequence.row):
                self._start(sequence)

    def _room_for_long(self) -> bool:
        """Long prompts get at most half of the rows, so that short ones need not wait."""
        if self._rows.count == 1:
            return True
        long = sum(self._waiting.is_long(sequence.request) for sequence in self._rows)
        return long < self._rows.count // 2

    def _emptiest_part(self) -> int:
        """Of the parts with a free row, the one with the most free rows and slots."""
        parts = [part for part in range(self._rows.parts) if self._rows.free_in(part)]
        return max(parts, key=lambda part: self._rows.free_in(part) + self._slots.free_in(part))

    def _next_ready(self) -> Sequence | None:
        """The first that is ready and for which its part has a free slot."""
        for sequence in self._ready:
            if self._slots.free_in(self._rows.part_of(sequence.row)):
                return sequence
        return None

    def _set_ready(self, sequence: Sequence) -> None:
        if sequence.only_reads:
            sequence.finish()
            self._rows.release(sequence.row, sequence)
            self._read.append(sequence)
        else:
            sequence.status = _READY
            self._ready.append(sequence)

    def _start(self, sequence: Sequence) -> None:
        """Has the prompt read from the end of the longest prefix that is kept."""
        sequence.status = _PREFILLING
        done, copied = self._begin(sequence)
        if copied is not None:
            self._buffer = self._engine.write_row(self._allocated(), sequence.row, copied)
        if done == sequence.boundary:
            self._keep_read(sequence)
        if done == sequence.prefill_tokens and (copied is not None or sequence.only_reads):
            self._prefixes.forget(sequence.prefixes, sequence.row)
            self._set_ready(sequence)
            return
        # A prompt of one token has nothing to prefill, but its row must be cleared.
        tokens = sequence.request.tokens[: sequence.prefill_tokens]
        self._queue.add(sequence.row, tokens, done, fresh=copied is None)

    def _begin(self, sequence: Sequence) -> tuple[int, Rows | None]:
        """Tokens of the prompt that need not be read, and the state after them; None: a fresh one.

        A state that is to be kept is one that the prompt passes, or begins with.
        """
        request = sequence.request
        at_most = sequence.boundary if request.keep_read else None
        done, copied = self._prefixes.longest(sequence.prefixes, at_most)
        if copied is None and request.start is not None and request.start.arrays:
            copied = self._engine.upload(request.start.arrays)
            if (start := self._prefixes.reached(sequence.prefixes, 0)) is not None:
                self._prefixes.keep(start, copied)
        return done, copied

    def _keep_read(self, sequence: Sequence) -> None:
        """Keeps what is read at the boundary, if the request asks for it."""
        if sequence.request.keep_read:
            buffer = self._allocated() if sequence.boundary else None
            self._kept.keep(sequence, buffer)

    def _leave(self, sequence: Sequence) -> None:
        """Drops a sequence that is in the buffer."""
        self._rows.release(sequence.row, sequence)
        if sequence.status is _READY:
            self._ready.remove(sequence)
        else:
            self._queue.remove(sequence.row)
            self._prefixes.forget(sequence.prefixes, sequence.row)
        sequence.finish()
