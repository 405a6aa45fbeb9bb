"""Who sits in which slot, or which place of the stage: pure bookkeeping, no device.

What the device brings late is credited through the tenancy that held at dispatch, never through
the slot: a slot may have its next tenant by then.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import (
    FAILED,
    IDLE,
    LAST,
    STOPPED,
    UNLIMITED,
    DecodedBlock,
    PendingBlock,
)
from rgpipeline.engine.checks import NO_NUMBERS
from rgpipeline.engine.prefill.prefixes import Prefix
from rgpipeline.records import Emission, FinishReason, Request, Snapshot, TokenLogprobs


@dataclass(slots=True, eq=False)
class Tenant:
    """One request's stay in a slot (or a place); a new object for every stay is its tenancy number.

    The counts are of a slot's tenants: those of places read.
    """

    request: Request
    slot: int
    prefixes: Sequence[Prefix] = ()
    generated: int = 0  # tokens sampled, as far as the host has read
    dispatched: int = 0  # steps dispatched since it came
    gone: bool = False  # finished or cancelled: late tokens are dropped
    wants_snapshot: bool = False

    @property
    def prefill_tokens(self) -> int:
        """All tokens but the last, which is the first input of decode."""
        return len(self.request.tokens) - 1

    @property
    def limit(self) -> int:
        """Tokens this stay may sample, or UNLIMITED."""
        limit = self.request.sampling.max_tokens
        if limit is None:
            return UNLIMITED
        done = self.request.snapshot.generated if self.request.snapshot else 0
        return limit - done

    @property
    def surely_done(self) -> bool:
        """True if the steps dispatched exhaust its limit, whatever is still unread."""
        return self.limit != UNLIMITED and self.dispatched >= self.limit


@dataclass(slots=True)
class Slots:
    """The slots [0, count): free, or with a tenant.

    They are in `parts` of equal size: [0, count / parts) is the first.
    """

    count: int
    parts: int = 1
    _tenants: dict[int, Tenant] = field(default_factory=dict)
    _free: list[list[int]] = field(default_factory=list)  # of each part

    def __post_init__(self) -> None:
        size = self.count // self.parts
        firsts = range(0, size * self.parts, size)
        self._free = [list(range(first + size - 1, first - 1, -1)) for first in firsts]

    @property
    def free(self) -> int:
        return sum(map(len, self._free))

    def free_in(self, part: int) -> int:
        """How many slots of a part are free."""
        return len(self._free[part])

    def part_of(self, tenant: Tenant) -> int:
        """The part in which the tenant's slot is."""
        return tenant.slot * self.parts // self.count

    @property
    def occupied(self) -> int:
        return len(self._tenants)

    def admit(self, request: Request, part: int, prefixes: Sequence[Prefix] = ()) -> Tenant:
        """Seats a request in a free slot of the part."""
        slot = self._free[part].pop()
        tenant = Tenant(request, slot, prefixes)
        self._tenants[slot] = tenant
        return tenant

    def release(self, tenant: Tenant) -> None:
        """Frees the tenant's slot, if it still is the tenant's."""
        if self._tenants.get(tenant.slot) is tenant:
            del self._tenants[tenant.slot]
            self._free[self.part_of(tenant)].append(tenant.slot)

    def find(self, key: Hashable) -> Tenant | None:
        """The tenant working on `key`."""
        return next((t for t in self._tenants.values() if t.request.key == key), None)

    def at(self, slot: int) -> Tenant:
        """The tenant of an occupied slot."""
        return self._tenants[slot]

    def __iter__(self) -> Iterator[Tenant]:
        return iter(list(self._tenants.values()))


@dataclass(frozen=True, slots=True)
class InFlight:
    """A dispatched block, with who sat where."""

    block: PendingBlock
    steps: int
    prefills: int  # calls made until it was dispatched
    tenants: list[Tenant]
    snapshots: Mapping[int, Mapping[str, NDArray[np.generic]]]  # by slot


class BlockRead:
    """A decoded block, slot by slot.

    How much each slot gained is worked out for all of them at once: numpy asked 256 times would
    take longer than all the rest that the host does for a block.
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
        self, tenant: Tenant, arrays: Mapping[str, NDArray[np.generic]] | None
    ) -> Emission:
        """The tenant's tokens in the block, credited to it.

        `arrays` is its state after the block, if a snapshot was asked for; a sequence that ended
        needs none.
        """
        slot = tenant.slot
        if self._failed[slot]:
            none = self._tokens[slot, :0]
            return Emission(tenant.request.key, none, "error", error=NO_NUMBERS)
        emitted, finish = self._emitted[slot], self._finish(slot)
        tenant.generated += emitted
        return Emission(
            key=tenant.request.key,
            token_ids=self._tokens[slot, :emitted],
            finish=finish,
            logprobs=self._told(slot, emitted, tenant.request.sampling.logprobs),
            snapshot=None if arrays is None or finish is not None else snapshot(tenant, arrays),
        )

    def _finish(self, slot: int) -> FinishReason | None:
        if self._stopped[slot]:
            return "stop"
        return "length" if self._last[slot] else None

    def _told(self, slot: int, emitted: int, wanted: int) -> TokenLogprobs | None:
        if not wanted or self._logprobs is None:
            return None
        top = wanted if wanted > 1 else 0
        return TokenLogprobs(
            sampled=self._logprobs.sampled[:emitted, slot].copy(),
            top_ids=self._logprobs.top_ids[:emitted, slot, :top].copy(),
            top=self._logprobs.top[:emitted, slot, :top].copy(),
        )


def snapshot(tenant: Tenant, arrays: Mapping[str, NDArray[np.generic]]) -> Snapshot:
    """The tenant's state after the tokens credited to it, on the host (waits for the device)."""
    before = tenant.request.snapshot.generated if tenant.request.snapshot else 0
    read = {name: np.asarray(array) for name, array in arrays.items()}
    return Snapshot(arrays=read, generated=before + tenant.generated)
