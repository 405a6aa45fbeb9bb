"""A peer's fastest way, batch size, dtype and grouping for a workload, from its measured rates."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from bench.peers.exchange import Batches, Rates, Setup
from bench.workloads import Row, Workload

DTYPES = ("float32", "bfloat16")
BATCHES = (32, 64)
QUICK_BATCHES = (4,)

# A dtype whose step takes so many times that of the faster one can't win by its prefill.
_TOO_SLOW = 1.3
# The next larger batch is measured only if the last one made a row's step so much shorter.
_STILL_FASTER = 0.97
# Share of a workload's seconds that may be lost to longer padding, to compile fewer programs.
_PADDING = 0.03

Measured = Mapping[Setup, Rates]


class Probed(Protocol):
    """What is asked of a peer."""

    def try_step(self, setup: Setup) -> float:
        """See `exchange.Peer.try_step`."""
        ...

    def measure(self, setup: Setup) -> Rates:
        """See `exchange.Peer.measure`."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How a peer does a workload, and how long it should take."""

    setup: Setup
    batches: Batches
    seconds: float
    prompt_lengths: tuple[int, ...] = ()  # to which the prompts of each batch are padded
    padding: float = 0.0  # share of the seconds that goes into padding to them


def measure(
    peer: Probed, batches: tuple[int, ...], ways: tuple[str, ...] = ("",)
) -> dict[Setup, Rates]:
    """A peer's rates in its fastest way.

    Each way and dtype is tried with a few steps of the middle batch size. The best way of each
    dtype is measured, unless the dtype is much slower. The other sizes are measured in the fastest
    way and dtype: smaller ones, and larger ones for as long as they are faster for each row.
    """
    middle = len(batches) // 2
    measured = {setup: peer.measure(setup) for setup in promising(peer, batches[middle], ways)}
    best = min(measured, key=lambda setup: _a_sequence_s(setup, measured[setup]))
    row_s = {best.batch: measured[best].step_s / best.batch}
    for batch in (*batches[:middle], *batches[middle + 1 :]):
        if batch > best.batch:
            *_, smaller, last = sorted(row_s)
            if row_s[last] > _STILL_FASTER * row_s[smaller]:
                break
        setup = dataclasses.replace(best, batch=batch)
        measured[setup] = peer.measure(setup)
        row_s[batch] = measured[setup].step_s / batch
    return measured


def promising(peer: Probed, batch: int, ways: tuple[str, ...] = ("",)) -> list[Setup]:
    """The fastest way of each dtype that isn't much slower than the other, the fastest first.

    If a dtype's first way is much slower, its other ways are not tried.
    """
    fastest: dict[Setup, float] = {}
    for dtype in DTYPES:
        tried: dict[Setup, float] = {}
        for way in ways:
            tried[Setup(dtype, batch, way)] = peer.try_step(Setup(dtype, batch, way))
            if fastest and min(tried.values()) > _TOO_SLOW * min(fastest.values()):
                break
        best = min(tried, key=tried.__getitem__)
        fastest[best] = tried[best]
    least = min(fastest.values())
    near = [setup for setup, step_s in fastest.items() if step_s <= _TOO_SLOW * least]
    return sorted(near, key=fastest.__getitem__)


def _a_sequence_s(setup: Setup, rates: Rates) -> float:
    """Seconds for each sequence of 128 prompt tokens and 128 new ones."""
    return 128 / rates.prefill_tokens_per_s + 128 * rates.step_s / setup.batch


def in_batches(workload: Workload, measured: Measured) -> Plan:
    """For a peer that does one batch after another, each until its longest output is done.

    Rows are sorted, so that those of a batch are similar; several orders are tried.
    """
    orders: tuple[Callable[[Row], float], ...] = (
        lambda row: row.new,
        lambda row: len(row.prompt),
        lambda row: len(row.prompt) + 4 * row.new,
    )
    plans = []
    for setup, rates in measured.items():
        for order in orders:
            rows = sorted(workload.rows, key=order)
            groups = [rows[i : i + setup.batch] for i in range(0, len(rows), setup.batch)]
            seconds = sum(_batch_s(group, rates) for group in groups)
            plans.append(Plan(setup, [[(r.prompt, r.new) for r in g] for g in groups], seconds))
    return min(plans, key=lambda plan: plan.seconds)


def _batch_s(rows: list[Row], rates: Rates) -> float:
    read = len(rows) * max(len(row.prompt) for row in rows)
    return read / rates.prefill_tokens_per_s + max(row.new for row in rows) * rates.step_s


def with_fewer_lengths(plan: Plan, measured: Measured) -> Plan:
    """The plan with prompts padded to fewer lengths, for a peer that compiles for each length.

    Lengths are merged, the cheapest pair first, while the padding costs less than `_PADDING`.
    """
    lengths = [max(len(prompt) for prompt, _ in batch) for batch in plan.batches]
    rows = [len(batch) for batch in plan.batches]
    rate, lost_s = measured[plan.setup].prefill_tokens_per_s, 0.0
    while len(distinct := sorted(set(lengths))) > 1:
        costs = {
            (short, long): sum(
                n * (long - short) for n, at in zip(rows, lengths, strict=True) if at == short
            )
            for short, long in pairwise(distinct)
        }
        (short, long), tokens = min(costs.items(), key=lambda item: item[1])
        if lost_s + tokens / rate > _PADDING * plan.seconds:
            break
        lost_s += tokens / rate
        lengths = [long if at == short else at for at in lengths]
    return dataclasses.replace(
        plan,
        seconds=plan.seconds + lost_s,
        prompt_lengths=tuple(lengths),
        padding=lost_s / (plan.seconds + lost_s),
    )


def in_slots(workload: Workload, measured: Measured) -> Plan:
    """For a peer that gives a finished row's slot to the next one: all rows in one batch."""
    rows = workload.rows
    longest = max(row.new for row in rows)

    def seconds(setup: Setup) -> float:
        rates = measured[setup]
        steps = max(longest, workload.new_tokens / setup.batch)
        return workload.prompt_tokens / rates.prefill_tokens_per_s + steps * rates.step_s

    best = min(measured, key=seconds)
    return Plan(best, [[(row.prompt, row.new) for row in rows]], seconds(best))
