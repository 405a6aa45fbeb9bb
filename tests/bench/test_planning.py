"""Which setups of a peer are measured, and how its rows are grouped."""

from dataclasses import dataclass, field

import pytest

from bench import planning
from bench.peers.exchange import Rates, Setup
from bench.workloads import Row, Workload

SETUP = Setup("float32", 2)
RATES = {SETUP: Rates(prefill_tokens_per_s=100, step_s=1)}


@dataclass
class Peer:
    """A peer whose step takes so many seconds by its dtype and way, and by its batch size."""

    seconds: dict[tuple[str, str], float]
    by_batch: dict[int, float] = field(default_factory=dict)
    tried: list[Setup] = field(default_factory=list)

    def try_step(self, setup: Setup) -> float:
        self.tried.append(setup)
        return self.seconds[setup.dtype, setup.way] * self.by_batch.get(setup.batch, 1)

    def measure(self, setup: Setup) -> Rates:
        return Rates(100, self.seconds[setup.dtype, setup.way] * self.by_batch.get(setup.batch, 1))


def workload(*rows: tuple[int, int]) -> Workload:
    return Workload("any", [Row([2] * prompt, new) for prompt, new in rows])


def test_a_much_slower_dtype_is_tried_in_one_way_and_never_measured() -> None:
    ways = ("eager", "compiled")
    steps = {("float32", "eager"): 2.0, ("float32", "compiled"): 1.0}
    peer = Peer({**steps, ("bfloat16", "eager"): 10.0})

    measured = planning.measure(peer, (4,), ways)

    assert list(measured) == [Setup("float32", 4, "compiled")]
    assert [s.way for s in peer.tried if s.dtype == "bfloat16"] == ["eager"]


def test_dtypes_of_nearly_the_same_speed_are_both_measured() -> None:
    peer = Peer({("float32", ""): 1.1, ("bfloat16", ""): 1.0})

    measured = planning.measure(peer, (4,))

    assert list(measured) == [Setup("bfloat16", 4), Setup("float32", 4)]


@pytest.mark.parametrize(
    ("step_s", "sizes"),
    [
        ({32: 1, 64: 1.5, 128: 2.5}, {32, 64, 128}),
        ({32: 1, 64: 2, 128: 4}, {32, 64}),
    ],
    ids=["rows get faster", "they don't"],
)
def test_larger_batches_are_measured_for_as_long_as_each_row_gets_faster(
    step_s: dict[int, float], sizes: set[int]
) -> None:
    peer = Peer({("float32", ""): 1.0, ("bfloat16", ""): 9.0}, step_s)

    measured = planning.measure(peer, (32, 64, 128))

    assert {setup.batch for setup in measured} == sizes


def test_rows_of_similar_outputs_share_a_batch() -> None:
    plan = planning.in_batches(workload((4, 9), (4, 1), (4, 9), (4, 1)), RATES)

    assert [[new for _, new in batch] for batch in plan.batches] == [[1, 1], [9, 9]]
    assert plan.seconds == pytest.approx(2 * 8 / 100 + 1 + 9)


def test_prompts_are_padded_to_fewer_lengths_where_that_costs_little() -> None:
    rows = workload((10, 10), (10, 10), (11, 20), (11, 20), (90, 30), (90, 30))
    plan = planning.in_batches(rows, RATES)

    padded = planning.with_fewer_lengths(plan, RATES)

    assert padded.prompt_lengths == (11, 11, 90)
    assert padded.seconds == pytest.approx(plan.seconds + 2 / 100)
    assert padded.padding == pytest.approx(0.02 / padded.seconds)
