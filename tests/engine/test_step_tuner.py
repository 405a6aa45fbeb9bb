"""Steps a call: from seconds by arithmetic, and found by timing a loop's own blocks."""

import pytest

from rgpipeline.engine.loop import Loop
from rgpipeline.engine.step_tuner import MAX_STEPS, StepTuner, best_steps, line
from tests.engine.test_loop import finish, request, texts
from tests.fake_engine import FakeEngine, by_hand


@pytest.mark.parametrize(
    ("step_ms", "call_ms", "steps"),
    [
        (50, 0, 1),  # all of the host's work is hidden: blocks as short as they can be
        (50, 0.2, 1),
        (50, 1, 2),
        (12, 1, 4),
        (1, 1, 16),  # a tiny model: the host is what takes time
        (0.01, 5, 16),  # and no more than what may wait for the end of a block
    ],
)
def test_the_dearer_a_call_the_more_steps_it_takes(step_ms, call_ms, steps) -> None:
    assert best_steps(step_ms / 1e3, call_ms / 1e3) == steps


def test_a_step_and_a_call_are_the_line_through_two_blocks() -> None:
    assert line(1, 0.080, 4, 0.230) == pytest.approx((0.050, 0.030))
    assert line(1, 0.200, 4, 0.180) == (0.0, 0.200)  # noise, not a step that takes less than none


class Timed(FakeEngine):
    """Of which every step takes 10 ms and every call more, by a clock of its own."""

    def __init__(self, call_s: float) -> None:
        super().__init__(slots=3, steps=MAX_STEPS)
        self.call_s, self.seconds, self.asked = call_s, 0.0, list[int]()

    def prefill(self, buffer, pack):
        self.seconds += 1
        return super().prefill(buffer, pack)

    def decode(self, state, features, steps):
        self.seconds += (self.call_s + steps) / 100
        self.asked.append(steps)
        return super().decode(state, features, steps)


@pytest.mark.parametrize(("call_s", "found"), [(0.0, 1), (0.02, 2), (1.0, 16)])
def test_a_loop_times_its_first_blocks_and_keeps_to_the_best(call_s: float, found: int) -> None:
    engine = Timed(call_s)
    loop = Loop(engine, tuner=StepTuner(None, clock=lambda: engine.seconds))
    loop.submit([request(0, [1], max_tokens=400, ignore_eos=True)])
    finish(loop)
    assert engine.asked[:2] == [1, 1]
    assert set(engine.asked[30:]) == {found}


def test_blocks_beside_which_prompts_are_read_are_not_timed() -> None:
    """A prefill takes as long as a hundred steps: with one in a block, 16 would be found."""
    engine = Timed(0.0)
    loop = Loop(engine, tuner=StepTuner(None, clock=lambda: engine.seconds))
    for key in range(200):
        loop.submit([request(key, [1, 2, 3], max_tokens=60)])
        loop.step()
    assert engine.asked[-1] == 1


def test_short_sequences_get_short_blocks() -> None:
    """Of one long sequence, the same engine's blocks have 16 steps."""
    engine = Timed(1.0)
    loop = Loop(engine, tuner=StepTuner(None, clock=lambda: engine.seconds))
    for key in range(200):
        loop.submit([request(key, [1, 2, 3], max_tokens=9)])
        loop.step()
    assert engine.asked[-1] == 4


def test_steps_that_take_long_are_not_tried_in_long_blocks() -> None:
    tuner, now = StepTuner(None, clock=lambda: seconds), 0
    seconds = 0.0
    while tuner.searching:
        seconds += 0.3 * tuner.steps
        tuner.record_block(tuner.steps, now, now)
    assert tuner.steps == 1
    assert seconds < 0.3 * 10


def test_blocks_that_something_else_slows_down_change_nothing() -> None:
    tuner, seconds, blocks = StepTuner(None, clock=lambda: seconds), 0.0, 0
    while tuner.searching:
        steps, blocks = tuner.steps, blocks + 1
        disturbed = 0.01 if steps == 1 and blocks % 3 else 0.0  # most of the short ones
        seconds += 0.08 * steps + disturbed
        tuner.record_block(steps, 0, 0)
    assert tuner.steps == 1


def test_rows_are_the_same_while_the_number_changes() -> None:
    engine = Timed(0.1)
    loop = Loop(engine, tuner=StepTuner(None, clock=lambda: engine.seconds))
    work = [([1, 2], 150), ([3], 61), ([7, 7, 2], 90), ([5], 40), ([4, 9], 133)]
    loop.submit(request(i, p, max_tokens=n) for i, (p, n) in enumerate(work))
    assert texts(finish(loop)) == {i: by_hand(p, n) for i, (p, n) in enumerate(work)}
    assert len(set(engine.asked)) > 1
