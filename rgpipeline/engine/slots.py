"""Who sits in which slot, or which place of the stage: pure bookkeeping, no device.

What the device brings late is credited through the tenancy that held at dispatch, never through
the slot: a slot may have its next tenant by then.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from rgpipeline.engine.api import UNLIMITED
from rgpipeline.engine.prefixes import Prefix
from rgpipeline.records import Request


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
