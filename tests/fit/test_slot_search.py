"""Finding the most slots, with few compilations."""

import pytest

from rgpipeline.fit.estimate import Trial, most_slots

WEIGHTS, SLOT, CAPACITY = 5_000, 17.0, 16_000


class Compiler:
    """A memory that is a little more than weights and state, and a log of what was tried."""

    def __init__(self, temporary: float) -> None:
        self.temporary = temporary  # for each slot
        self.tried: list[int] = []

    def needs(self, slots: int) -> int:
        return round(WEIGHTS + slots * (SLOT + self.temporary) + 0.001 * slots**1.5)

    def __call__(self, slots: int) -> Trial:
        self.tried.append(slots)
        total = self.needs(slots)
        return Trial(slots, total <= CAPACITY, total, WEIGHTS, SLOT)


@pytest.mark.parametrize("temporary", [0.0, 0.4, 3.0])
@pytest.mark.parametrize("step", [8, 32])
def test_the_answer_fits_and_one_step_more_does_not(temporary: float, step: int) -> None:
    compiler = Compiler(temporary)

    found = most_slots(compiler, CAPACITY, step=step)

    assert found is not None
    assert found.slots % step == 0
    assert compiler.needs(found.slots) <= CAPACITY < compiler.needs(found.slots + step)


def test_few_that_fit_are_compiled() -> None:
    compiler = Compiler(temporary=1.0)

    most_slots(compiler, CAPACITY)

    assert sum(compiler.needs(slots) <= CAPACITY for slots in compiler.tried) <= 2
    assert len(compiler.tried) <= 5


def test_far_goes_farther_while_it_fits() -> None:
    found = most_slots(Compiler(temporary=0.0), CAPACITY, far=16)

    assert found is not None
    assert found.slots > 600


def test_weights_that_are_too_large_leave_nothing() -> None:
    def too_large(slots: int) -> Trial:
        return Trial(slots, False, 19_000 + slots, 19_000, 1.0)

    assert most_slots(too_large, CAPACITY) is None
