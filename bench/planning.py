"""A peer's fastest batch size, dtype and grouping for a workload, from its measured rates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.peers.exchange import Batches, Rates, Setup
from bench.workloads import Row, Workload

DTYPES = ("float32", "bfloat16")
BATCHES = (32, 64, 128)
QUICK_BATCHES = (4,)

Measured = Mapping[Setup, Rates]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a peer does a workload, and how long it should take."""

    setup: Setup
    batches: Batches
    seconds: float


def measure(ask: Callable[[Setup], Rates], batches: tuple[int, ...]) -> dict[Setup, Rates]:
    """A peer's rates: both dtypes at the middle batch size, the other sizes in the faster dtype."""
    middle = batches[len(batches) // 2]
    measured = {setup: ask(setup) for setup in (Setup(dtype, middle) for dtype in DTYPES)}
    dtype = min(measured, key=lambda setup: _a_sequence_s(setup, measured[setup])).dtype
    for batch in batches:
        setup = Setup(dtype, batch)
        if setup not in measured:
            measured[setup] = ask(setup)
    return measured


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
