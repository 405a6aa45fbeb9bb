"""From waiting to seated: prompts are read on the stage, and what they lead to goes into slots.

A state comes from a snapshot, from a prefix that another prompt shares, or from prefill; usually
from the last two, one after the other. Prompts are read ahead of free slots, so that a slot need
not wait for a prefill call, nor a call for a slot.
"""

from collections.abc import Hashable
from typing import Generic

from rgpipeline.engine.api import Engine, Rows, State
from rgpipeline.engine.prefill.prefixes import PrefixCache
from rgpipeline.engine.prefill.queues import LONG_CHUNKS, PrefillQueue, Waiting
from rgpipeline.engine.sequence import Slots, Tenant
from rgpipeline.records import Request


class Seating(Generic[State, Rows]):
    """Requests that wait, those whose prompt is being read, and those that only lack a slot."""

    def __init__(self, engine: Engine[State, Rows], slots: Slots, prefix_states: int) -> None:
        self._engine = engine
        self._slots = slots
        self._waiting = Waiting(LONG_CHUNKS * max(size for _, size in engine.pack_shapes))
        self._places = Slots(engine.staging, engine.parts)
        self._held: list[Tenant] = []  # in places, waiting for a prefix that another one reads
        self._ready: list[Tenant] = []  # in places, waiting for a slot
        self._stage: Rows | None = None
        self._queue = PrefillQueue(engine.pack_shapes, engine.staging, engine.parts)
        self._prefix_states = prefix_states
        self._prefixes = self._no_prefixes()

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._waiting) + self._places.occupied

    @property
    def progress(self) -> tuple[int, int]:
        """(tokens read, tokens) of the prompts that are being read."""
        return self._queue.progress

    @property
    def at_hand(self) -> list[Hashable]:
        """Keys of the requests on the stage, and of those that get there once there is room.

        That is, of all whose prompts may be read before another block of tokens is decoded.
        """
        room = self._slots.free + self._places.free
        on_stage = [tenant.request.key for tenant in self._places]
        return on_stage + (self._waiting.first(room) if room else [])

    def add(self, request: Request) -> None:
        """Queues a request."""
        fresh = request.snapshot is None
        prefixes = self._prefixes.expect(request.tokens[:-1]) if fresh else []
        self._waiting.add(request, prefixes)

    def drop(self, key: Hashable) -> None:
        """Forgets the request if it has no slot yet."""
        prefixes = self._waiting.remove(key)
        if prefixes is not None:
            self._prefixes.forget(prefixes, None)
        tenant = self._places.find(key)
        if tenant is not None:
            self._leave(tenant)

    def drop_all(self) -> None:
        """Forgets every request that has no slot yet."""
        while popped := self._waiting.pop():
            self._prefixes.forget(popped[1], None)
        for tenant in self._places:
            self._leave(tenant)

    def release(self) -> None:
        """Gives up the device's memory if no request needs it; it is taken again when one comes."""
        if not self.waiting:
            self._stage = None
            self._prefixes = self._no_prefixes()

    def seat(self, state: State) -> tuple[State, list[Tenant]]:
        """Fills free slots with what is ready; returns who got one."""
        seated = []
        self._fill()
        while (reader := self._next()) is not None:
            tenant = self._slots.admit(reader.request, self._places.part_of(reader))
            snapshot = reader.request.snapshot
            if snapshot is None:
                state = self._engine.seat(state, tenant.slot, self._staged(), reader.slot)
            else:
                rows = self._engine.upload(snapshot.arrays)
                state = self._engine.insert(state, tenant.slot, rows)
            self._ready.remove(reader)
            self._places.release(reader)
            seated.append(tenant)
            self._fill()
        return state, seated

    def prefill(self) -> bool:
        """One prefill call, if one is due; False if none is."""
        slots = self._slots
        call = self._queue.next_pack(hurry=slots.free > 0, decoding=slots.occupied > 0)
        if call is None:
            return False
        pack, progress = call
        self._stage = self._engine.prefill(self._staged(), pack)
        for place, done in progress:
            tenant = self._places.at(place)
            prefix = self._prefixes.reached(tenant.prefixes, done)
            if prefix is not None:
                self._prefixes.keep(prefix, self._engine.extract(self._staged(), place))
            if done == tenant.prefill_tokens:
                self._prefixes.forget(tenant.prefixes, place)
                self._ready.append(tenant)
        return True

    def wait(self, steps: int) -> None:
        """So many decode steps go by."""
        self._queue.wait(steps, self._slots.count)

    def catch_up(self) -> None:
        """Waits until the device has read what it was given to read."""
        if self._stage is not None:
            self._engine.wait(self._stage)

    def _staged(self) -> Rows:
        if self._stage is None:
            self._stage = self._engine.stage()
        return self._stage

    def _no_prefixes(self) -> PrefixCache[Rows]:
        return PrefixCache(max(size for _, size in self._engine.pack_shapes), self._prefix_states)

    def _fill(self) -> None:
        """Gives free places to requests that wait, and something to do to those that can begin."""
        while self._places.free and (popped := self._waiting.pop(self._room_for_long())):
            request, prefixes = popped
            self._held.append(self._places.admit(request, self._emptiest(), prefixes))
        held, self._held = self._held, []
        for tenant in held:
            if tenant.request.snapshot is not None:
                self._ready.append(tenant)
            elif self._prefixes.claim(tenant.prefixes, tenant.slot):
                self._begin(tenant)
            else:
                self._held.append(tenant)

    def _room_for_long(self) -> bool:
        """Long prompts get half of the places at most, so that short ones need not wait."""
        if self._places.count == 1:
            return True
        long = sum(self._waiting.is_long(tenant.request) for tenant in self._places)
        return long < self._places.count // 2

    def _emptiest(self) -> int:
        """The part with fewest sequences, in places and slots, of those with a free place."""
        parts = [part for part in range(self._places.parts) if self._places.free_in(part)]
        return max(parts, key=lambda part: self._places.free_in(part) + self._slots.free_in(part))

    def _next(self) -> Tenant | None:
        """Who is seated next: the first that is ready and for whom there is a slot in its part."""
        for reader in self._ready:
            if self._slots.free_in(self._places.part_of(reader)):
                return reader
        return None

    def _begin(self, tenant: Tenant) -> None:
        """Has the prompt read from where a known prefix ends."""
        done, copied = self._prefixes.longest(tenant.prefixes)
        if copied is not None:
            self._stage = self._engine.put(self._staged(), tenant.slot, copied)
            if done == tenant.prefill_tokens:
                self._prefixes.forget(tenant.prefixes, tenant.slot)
                self._ready.append(tenant)
                return
        # A prompt of one token has nothing to prefill, but its place must be made fresh.
        tokens = tenant.request.tokens[:-1]
        self._queue.add(tenant.slot, tokens, done, fresh=copied is None)

    def _leave(self, tenant: Tenant) -> None:
        """The tenant of a place is gone before it got a slot."""
        self._places.release(tenant)
        if tenant in self._ready:
            self._ready.remove(tenant)
            return
        self._queue.remove(tenant.slot)
        self._held = [held for held in self._held if held is not tenant]
        self._prefixes.forget(tenant.prefixes, tenant.slot)
