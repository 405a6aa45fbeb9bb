"""A store in memory whose calls fail before or after their effect; it records what is published."""

import json
from collections import Counter
from collections.abc import Callable, Sequence

from rgpipeline.io.committed_rows import Entry, entry_of
from rgpipeline.io.log import PartFooter
from rgpipeline.io.parts import parse_part_name
from rgpipeline.records import OutputRow
from rgpipeline.storage.store import Store
from tests.simulator.invariants import PublishedRows
from tests.simulator.scenario import Scenario
from tests.simulator.virtual_world import VirtualWorld

_QUICK, _SLOW = 0.005, 0.2  # seconds of a call


class MemoryStore:
    """A `Store` for one process; each call takes time, in which other processes act.

    `alive` raises when the calling process has died meanwhile.
    """

    def __init__(
        self, objects: dict[str, bytes], scenario: Scenario, world: VirtualWorld,
        published: PublishedRows, alive: Callable[[], None], counts: Counter[str],
    ) -> None:  # fmt: skip
        self._objects = objects
        self._scenario = scenario
        self._world = world
        self._published = published
        self._alive = alive
        self._counts = counts

    def create(self, name: str, data: bytes) -> bool:
        self._before()
        created = name not in self._objects
        if created:
            self._objects[name] = data
            self._published.add(name, data)
        else:
            self._counts["races for a part lost"] += 1
        self._after()
        return created

    def read(self, name: str) -> bytes:
        self._before()
        found = self._objects.get(name)
        self._after()
        if found is None:
            raise FileNotFoundError(name)
        return found

    def read_tail(self, name: str, length: int) -> bytes:
        return self.read(name)

    def replace(self, name: str, data: bytes) -> None:
        raise AssertionError("no row is published by replacing")

    def delete(self, name: str) -> None:
        raise AssertionError("nothing is deleted")

    def list(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self._objects if name.startswith(prefix))

    def entries(self) -> Sequence[str]:
        return self.list()

    def exists(self, name: str) -> bool:
        return name in self._objects

    def url(self, name: str = "") -> str:
        return f"memory:{name}"

    def _before(self) -> None:
        self._counts["store calls"] += 1
        self._take_time()
        if self._fails():
            self._counts["store calls that failed before the effect"] += 1
            raise ConnectionError("the request was lost")

    def _after(self) -> None:
        self._take_time()
        if self._fails():
            self._counts["store calls that failed after the effect"] += 1
            raise ConnectionError("the reply was lost")

    def _take_time(self) -> None:
        self._world.pass_time(self._world.between(_QUICK, _SLOW))
        self._alive()

    def _fails(self) -> bool:
        begin, end = self._scenario.outage
        if begin < self._world.now < end:
            return True
        return self._world.now < self._scenario.trouble_s and self._world.chance(
            self._scenario.store_fails
        )


def encode_part(rows: Sequence[OutputRow], attempt: str) -> bytes:
    """A part's bytes: what its footer says, as JSON; Parquet is tried elsewhere."""
    entries = [tuple(entry_of(row)) for row in rows]
    return json.dumps({"attempt": attempt, "entries": entries}).encode()


def read_encoded_footer(store: Store, name: str, fingerprint: str | None) -> PartFooter:
    """What `io.footers.read_footer` does, for such parts."""
    return decode_part(name, store.read_tail(name, 1 << 16))


def decode_part(name: str, data: bytes) -> PartFooter:
    """What a encoded part says of itself."""
    facts = json.loads(data)
    shard, part = parse_part_name(name) or (-1, -1)
    entries = tuple(Entry(*entry) for entry in facts["entries"])
    return PartFooter(shard, part, facts["attempt"], "", entries, 0, 0)
