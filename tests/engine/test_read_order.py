"""When a step with masks is read before the next one is dispatched."""

import pytest

from rgpipeline.engine.read_order import ReadOrder
from rgpipeline.engine.sequence import IndexPool, Sequence

STEP_S = 0.015


class Steps:
    """Runs of one length in 64 slots: the host works for `host_s` after each step."""

    def __init__(self, tokens: int, waiting: int, host_s: float) -> None:
        self.seconds, self.waiting, self.host_s = 0.0, waiting, host_s
        self.order = ReadOrder(lambda: self.seconds)
        self.slots = IndexPool(64)
        for _ in range(64 - 64 // tokens):
            self.slots.take(Sequence.__new__(Sequence), 0)

    def first(self, steps: int = 200) -> float:
        """How often a step is read first, of the last of these steps."""
        chosen = [self.step() for _ in range(steps)]
        return sum(chosen[steps // 2 :]) / (steps // 2)

    def step(self) -> bool:
        first = self.order.choose()
        self.seconds += STEP_S
        self.order.record_read()
        self.order.record_ended(64, self.slots, self.waiting)
        self.seconds += self.host_s
        self.order.record_forward(0)
        return first


@pytest.mark.parametrize(
    ("tokens", "waiting", "host_s", "least", "most"),
    [
        (4, 9, 0.002, 1.0, 1.0),  # a quarter of each step would be wasted
        (64, 9, 0.002, 0.0, 0.1),  # a 64th of it is less than the host's time
        (64, 9, 0.0001, 1.0, 1.0),
        (4, 0, 0.002, 0.0, 0.1),  # nobody waits for the slots
    ],
)
def test_a_step_is_read_first_where_the_device_would_waste_more_than_it_waits(
    tokens, waiting, host_s, least, most
):
    assert least <= Steps(tokens, waiting, host_s).first() <= most


def test_long_rows_are_read_first_in_a_few_steps_only() -> None:
    """Nothing is known of the first step, so it is taken to be wasted whole."""
    steps = Steps(tokens=64, waiting=0, host_s=0.0005)
    chosen = [steps.step() for _ in range(64)]
    assert sum(chosen) < 16
    assert chosen == sorted(chosen, reverse=True)


def test_after_one_slow_step_of_the_host_it_is_measured_again() -> None:
    steps = Steps(tokens=4, waiting=9, host_s=10.0)
    steps.step()
    steps.step()
    steps.host_s = 0.002
    assert steps.first() == 1.0
