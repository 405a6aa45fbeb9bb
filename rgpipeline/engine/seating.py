"""From waiting to ready: requests get slots, and slots the state their prompt leads to.

A state comes from a snapshot, from a prefix that another prompt shares, or from prefill; usually
from the last two, one after the other.
"""

from collections.abc import Hashable
from typing import Generic

from rgpipeline.engine.api import Engine, Rows, State
from rgpipeline.engine.prefill_queue import PrefillQueue
from rgpipeline.engine.prefixes import PrefixCache
from rgpipeline.engine.scheduler import Waiting
from rgpipeline.engine.slots import Slots, Tenant
from rgpipeline.records import Request


class Seating(Generic[State, Rows]):
    """Requests that wait, and tenants whose slot isn't ready to decode."""

    def __init__(self, engine: Engine[State, Rows], slots: Slots, prefix_states: int) -> None:
        self._engine = engine
        self._slots = slots
        self._waiting = Waiting()
        self._held: list[Tenant] = []  # in slots, waiting for a prefix another slot prefills
        self._queue = PrefillQueue(engine.pack_shapes, engine.slots, engine.parts)
        self._prefixes = PrefixCache[Rows](max(t for _, t in engine.pack_shapes), prefix_states)

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._waiting)

    def add(self, request: Request) -> None:
        """Queues a request."""
        fresh = request.snapshot is None
        prefixes = self._prefixes.expect(request.tokens[:-1]) if fresh else []
        self._waiting.add(request, prefixes)

    def drop(self, key: Hashable) -> None:
        """Forgets the request if it waits."""
        prefixes = self._waiting.remove(key)
        if prefixes is not None:
            self._prefixes.forget(prefixes, None)

    def drop_all(self) -> None:
        """Forgets every request that waits."""
        while self._waiting:
            self._prefixes.forget(self._waiting.pop()[1], None)

    def leave(self, tenant: Tenant) -> None:
        """The tenant leaves before it was ready."""
        self._queue.remove(tenant.slot)
        self._held = [held for held in self._held if held is not tenant]
        self._prefixes.forget(tenant.prefixes, tenant.slot)

    def admit(self, state: State) -> tuple[State, list[Tenant]]:
        """Fills the free slots; returns those tenants that are ready at once."""
        while self._waiting and self._slots.free:
            self._held.append(self._slots.admit(*self._waiting.pop()))
        held, self._held = self._held, []
        ready = []
        for tenant in held:
            if not self._prefixes.claim(tenant.prefixes, tenant.slot):
                self._held.append(tenant)
                continue
            state, is_ready = self._seat(state, tenant)
            if is_ready:
                ready.append(tenant)
        return state, ready

    def prefill(self, state: State, *, hurry: bool) -> tuple[State, list[Tenant]] | None:
        """One prefill call, if one is due; returns the tenants it made ready."""
        call = self._queue.next_pack(hurry=hurry)
        if call is None:
            return None
        pack, progress = call
        state = self._engine.prefill(state, pack)
        ready = []
        for slot, done in progress:
            tenant = self._slots.at(slot)
            prefix = self._prefixes.reached(tenant.prefixes, done)
            if prefix is not None:
                self._prefixes.keep(prefix, self._engine.extract(state, slot))
            if done == tenant.prefill_tokens:
                self._prefixes.forget(tenant.prefixes, slot)
                ready.append(tenant)
        return state, ready

    def wait(self, steps: int) -> None:
        """So many decode steps go by."""
        self._queue.wait(steps)

    def _seat(self, state: State, tenant: Tenant) -> tuple[State, bool]:
        """Puts into the slot what exists of the request's state; True if that is all of it."""
        if tenant.request.snapshot is not None:
            rows = self._engine.upload(tenant.request.snapshot.arrays)
            return self._engine.insert(state, tenant.slot, rows), True
        done, copied = self._prefixes.longest(tenant.prefixes)
        if copied is not None:
            state = self._engine.insert(state, tenant.slot, copied)
            if done == tenant.prefill_tokens:
                self._prefixes.forget(tenant.prefixes, tenant.slot)
                return state, True
        # A prompt of one token has nothing to prefill, but its slot must be made fresh.
        tokens = tenant.request.tokens[:-1]
        self._queue.add(tenant.slot, tokens, done, fresh=copied is None)
        return state, False
