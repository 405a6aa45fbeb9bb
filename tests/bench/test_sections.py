"""The bench's sections on texts, with a model small enough to try them; and their lines."""

from pathlib import Path

import pytest

from bench import choices, states, texts
from bench.peer_set import OFFICIAL, OURS, PeerSet
from bench.peers.exchange import Rates, Run, Setup
from bench.planning import Plan
from bench.processes import Process
from bench.sections import compared_peers, mixed_rows, read_texts
from bench.workloads import Row, Workload
from rgpipeline.engine.griffin_engine import GriffinEngine
from tests.engine.test_same_bytes import engine as engine_of


@pytest.fixture(scope="module")
def engine() -> GriffinEngine:
    return engine_of("float32")


def test_texts_are_compared_with_prefill_and_with_their_programs(engine: GriffinEngine) -> None:
    measured = texts.measure(engine, texts=3, rounds=1)

    assert measured["tokens"] == (1 + 2 + 3) * engine.settings.prefill_chunk
    assert all(rate > 0 for kind in texts.KINDS for rate in measured["kinds"][kind].values())
    labels = [label for label, _ in read_texts.texts_lines(measured)]
    assert labels == ["prefill", "embed", "score", "score whole texts"]


def test_choices_and_their_pairs_have_the_same_scores(engine: GriffinEngine) -> None:
    measured = choices.measure(engine, prompts=1, length=64, rounds=1)

    assert measured["same_scores"]
    one, many = (value for _, value in read_texts.choices_lines(measured))
    assert one.endswith(" x) pairs")
    assert many.endswith(" x) pairs")


def test_questions_have_the_same_answers_from_a_state_by_the_cache_and_from_whole_prompts(
    engine: GriffinEngine,
) -> None:
    measured = states.measure(engine, tokens=300, questions=3, new=4, anew=2, rounds=1)

    assert measured["same_tokens"]
    answers, ways = (value for _, value in read_texts.states_lines(measured))
    assert answers.endswith(" x) whole prompts (2 measured)")
    assert "by the prefix cache" in ways


class PlannedPeers(PeerSet):
    """Peers that take 1,000 s for a workload by their rates, and half of it when they run."""

    def plan(self, peer: str, workload: Workload) -> Plan:
        return Plan(Setup("float32", 4), [], seconds=1000)

    def run(
        self, peer: str, workload: Workload, process: Process | None = None, **options: bool
    ) -> tuple[Plan, Run]:
        return self.plan(peer, workload), Run(500)


def test_a_peer_that_would_take_too_long_is_not_run_and_its_line_says_so(tmp_path: Path) -> None:
    peers = PlannedPeers(tmp_path, quick=True, names=(OURS, OFFICIAL), longest_s=999)

    measured = compared_peers.measure(peers, "fixed")

    assert measured["peers"][OFFICIAL]["ours_is_times"] == 2
    ours, official = (value for _, value in compared_peers.lines(measured))
    assert "not run" not in ours
    assert "1000.0 s by its rates, not run" in official


def test_a_workload_at_our_own_rates_is_all_of_the_machine_but_for_its_tail() -> None:
    # 4 slots, 1 s a step: 8 tokens are written in 5 steps, with full slots in 2. 10 s for prompts.
    work = Workload("by hand", [Row([2] * 25, new) for new in (5, 1, 1, 1)])
    rates = [Rates(prefill_tokens_per_s=5.0, step_s=2.0), Rates(10.0, 1.0)]

    found = mixed_rows.of_the_machine(work, 4, rates, seconds=15.0)

    assert found == {"of_machine": 12 / 15, "of_machine_with_tail": 1.0}


def test_longest_rows_first_need_the_fewest_steps() -> None:
    assert mixed_rows.steps([1, 2, 3, 3, 3], slots=2) == 6
