"""One slot: on a CPU, bfloat16 is decoded in two rows, of which one stays idle."""

from dataclasses import replace

import pytest

from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.programs.program_shapes import rows_per_slot
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.engine.step_tuner import StepTuner
from rgpipeline.model.collectives import ALONE, Chips
from rgpipeline.records import ResolvedSettings
from tests.engine.test_same_bytes import SAMPLINGS, Answer, Row, engine_of

ONE = ResolvedSettings("bfloat16", slots=1, prefill_chunk=16, steps_per_dispatch=3)


@pytest.mark.parametrize(
    ("settings", "platform", "chips", "rows"),
    [
        (ONE, "cpu", ALONE, 2),
        (replace(ONE, slots=4), "cpu", Chips(4, 1), 2),  # one for each chip
        (replace(ONE, slots=2), "cpu", ALONE, 1),
        (replace(ONE, slots=2), "cpu", Chips(1, 2), 1),  # both chips have a part of two rows
        (replace(ONE, dtype="float32"), "cpu", ALONE, 1),
        (replace(ONE, quantize="int8"), "cpu", ALONE, 1),
        (ONE, "tpu", ALONE, 1),
    ],
)
def test_only_a_cpus_one_row_of_bfloat16_gets_a_second(settings, platform, chips, rows) -> None:
    assert rows_per_slot(settings, platform, chips.data) == rows


def test_one_slot_of_bfloat16_says_what_either_of_two_says() -> None:
    answers = []
    for slots in (1, 2):
        engine = engine_of(replace(ONE, slots=slots))
        assert engine.shapes(SamplingFeatures()).slots.token.shape == (2,)
        rows = [Row(31, 5, seed, sampling, 12) for seed, sampling in enumerate((0, 3))]
        assert SAMPLINGS[3].logit_bias
        answers.append(answers_of(engine, rows))
    assert answers[0] == answers[1]


def answers_of(engine: GriffinEngine, rows: list[Row]) -> list[Answer]:
    """Each row's answer, every one of them drained midway and gone on with."""
    answers, loop = [Answer() for _ in rows], Loop(engine, tuner=StepTuner(3))
    for key, row in enumerate(rows):
        loop.submit([row.request(key)])
        emissions = [*loop.step(), *loop.step(), *loop.step(), *loop.drain()]
        snapshot = emissions[-1].snapshot
        if emissions[-1].finish is None:
            loop.submit([row.request(key, snapshot)])
        while not loop.idle:
            emissions += loop.step()
        for emission in emissions:
            answers[key] = answers[key].and_then(emission)
    return answers
