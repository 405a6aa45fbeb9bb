"""A scenario: a job, a cluster, and what goes wrong; drawn from a seed."""

from dataclasses import dataclass
from random import Random

from rgpipeline.dispatch.failure_tracker import Policy
from rgpipeline.records import Shard, Span


@dataclass(frozen=True)
class Scenario:
    """A job, a cluster, and its failures. Probabilities are per occasion, times in seconds."""

    seed: int
    shards: tuple[Shard, ...]
    hosts: int  # at the start
    slots: int  # of each worker
    row_s: float  # mean time for a segment of a row
    poison: frozenset[tuple[int, int]]  # (shard, row)s that kill the workers that do them
    trouble_s: float  # when failures end, except for poison rows
    host_trouble_s: float  # between changes of hosts (join, die, drain); 0: none
    crash_s: float  # between crashes of processes; 0: none
    hang_s: float
    lost: float  # share of messages that are lost
    slow_s: float  # the longest a message takes
    store_fails: float  # share of calls
    outage: tuple[float, float]  # the store does not answer (from, to)
    cannot_open: float  # share of processes that fail to open an engine
    driver_dies_at: float  # 0: never
    second_driver_at: float  # 0: never
    stop_at: float  # 0: never
    part_removed: bool  # after the job's end a part is removed, and the job is run again

    @property
    def policy(self) -> Policy:
        return Policy(
            worker_timeout_s=20.0,
            pending_timeout_s=60.0,
            start_timeout_s=40.0,
            silence_s=30.0,
            drain_timeout_s=15.0,
            max_backoff_s=8.0,
        )

    @property
    def calm(self) -> bool:
        """True when nothing but poison kills a process."""
        return not (
            self.crash_s
            or self.hang_s
            or self.cannot_open
            or self.outage[1]
            or self.host_trouble_s
            or self.driver_dies_at
            or self.second_driver_at
        )


def draw_scenario(seed: int) -> Scenario:
    """The scenario of a seed, always the same one."""
    random = Random(f"night {seed}")  # changing the text would change every seed's scenario

    def sometimes(share: float, least: float, most: float) -> float:
        return random.uniform(least, most) if random.random() < share else 0.0

    shards = tuple(_shards(random))
    rows = [(shard.index, row) for shard in shards for row in range(shard.rows)]
    poisoned = random.sample(rows, min(len(rows) - 1, random.choice([0, 0, 0, 1, 2])))
    outage_at = sometimes(0.15, 2, 20)
    return Scenario(
        seed=seed,
        shards=shards,
        hosts=random.randint(1, 5),
        slots=random.randint(1, 6),
        row_s=random.choice([0.3, 1.0, 3.0]),
        poison=frozenset(poisoned),
        trouble_s=random.uniform(10, 60),
        host_trouble_s=sometimes(0.4, 3, 30),
        crash_s=sometimes(0.4, 3, 30),
        hang_s=sometimes(0.3, 5, 40),
        lost=sometimes(0.5, 0.0, 0.4),
        slow_s=random.choice([0.05, 1.0, 5.0]),
        store_fails=sometimes(0.5, 0.0, 0.3),
        outage=(outage_at, outage_at + random.uniform(5, 60) if outage_at else 0.0),
        cannot_open=sometimes(0.2, 0.0, 0.5),
        driver_dies_at=sometimes(0.25, 1, 40),
        second_driver_at=sometimes(0.15, 1, 30),
        stop_at=sometimes(0.15, 1, 40),
        part_removed=random.random() < 0.3,
    )


def _shards(random: Random) -> list[Shard]:
    shards, start = [], 0
    for index in range(random.randint(1, 6)):
        rows = random.randint(1, 16)
        shards.append(Shard(index, (Span(0, start, start + rows),)))
        start += rows
    return shards
