"""A sequence's bytes depend on its request alone: not on slot, company, interruptions or the clock.

Whatever hypothesis makes of a workload, every row must come out as it does alone in an engine.
"""

from dataclasses import dataclass, replace
from functools import cache
from random import Random

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.step_tuner import MAX_STEPS, StepTuner
from rgpipeline.model.config import ATTENTION, RECURRENT, GriffinConfig
from rgpipeline.records import Emission, Request, ResolvedSettings, Snapshot, draw_words
from rgpipeline.spec import Sampling
from tests.model.official import in_int8, ours_from_official, random_official_params

# A block of each kind: most of the time is the compiler's.
CONFIG = GriffinConfig(256, 64, 192, 2, 64, (RECURRENT, ATTENTION), window=16)
HELD = ("float32", "bfloat16", "int8")
SLOTS, CHUNK, STEPS = 4, 32, 3

# Each needs another decode program, and all programs must say the same of a row.
SAMPLINGS = (
    Sampling(temperature=0, logprobs=1),
    Sampling(logprobs=1, ignore_eos=True),
    Sampling(temperature=1.5, top_k=40, top_p=0.9, logprobs=1, stop_ids=(9, 33)),
    Sampling(
        logprobs=3,
        min_p=0.01,
        min_tokens=9,
        repetition_penalty=1.3,
        frequency_penalty=0.2,
        logit_bias={9: 4.0},
    ),
)


@dataclass(frozen=True)
class Row:
    """A prompt of a shared head and a tail of its own, and how it is sampled."""

    head: int  # tokens of it; heads of one length are the same
    tail: int
    seed: int
    sampling: int
    new: int

    def request(self, key: int, snapshot: Snapshot | None = None) -> Request:
        shared = np.random.default_rng(0).integers(3, 256, self.head)
        own = np.random.default_rng(self.seed + 1).integers(3, 256, self.tail)
        tokens = np.concatenate([[2], shared, own]).astype(np.int32)
        sampling = SAMPLINGS[self.sampling].model_copy(update={"max_tokens": self.new})
        return Request(key, tokens, sampling, draw_words(self.seed, "row", 0), snapshot)


@dataclass(frozen=True)
class Answer:
    """All that was emitted of one row, as bytes."""

    tokens: bytes = b""
    logprobs: tuple[bytes, ...] = (b"", b"", b"")
    finish: str | None = None

    def and_then(self, emission: Emission) -> "Answer":
        assert emission.error is None
        new = emission.logprobs
        told = (b"", b"", b"")
        if new is not None:
            told = (new.sampled.tobytes(), new.top_ids.tobytes(), new.top.tobytes())
        logprobs = tuple(before + now for before, now in zip(self.logprobs, told, strict=True))
        return Answer(self.tokens + emission.token_ids.tobytes(), logprobs, emission.finish)


@cache
def engine(held: str, steps: int | None = None) -> GriffinEngine:
    """`steps` in each of its blocks; None for one that takes any number."""
    quantized = held == "int8"
    dtype = "float32" if quantized else held
    settled = ResolvedSettings(dtype, SLOTS, CHUNK, steps, "int8" if quantized else "none")
    return engine_of(settled)


def engine_of(settings: ResolvedSettings) -> GriffinEngine:
    """Of random weights, the same each time."""
    weights = random_official_params(CONFIG, 0)
    params = ours_from_official(CONFIG, weights, jnp.dtype(settings.dtype))
    if settings.quantize == "int8":
        params = in_int8(params)
    return GriffinEngine(CONFIG, params, settings, pack_tokens=2 * CHUNK)


@cache
def alone(row: Row, held: str) -> Answer:
    loop, answer = Loop(engine(held), tuner=StepTuner(STEPS)), Answer()
    loop.submit([row.request(0)])
    while not loop.idle:
        for emission in loop.step():
            answer = answer.and_then(emission)
    return answer


class AnySteps(StepTuner):
    """As if the clock said something else of every block."""

    def __init__(self, random: Random) -> None:
        super().__init__(None)
        self._random = random

    @property
    def steps(self) -> int:
        return self._random.choice((1, 2, 5, MAX_STEPS))

    def record_block(self, steps: int, before: int, now: int, tokens: float = 0) -> None:
        pass


ROWS = st.lists(
    st.builds(
        Row,
        head=st.sampled_from([0, 31, 63, 70]),
        tail=st.integers(0, 40),
        seed=st.integers(0, 3),
        sampling=st.integers(0, len(SAMPLINGS) - 1),
        new=st.integers(1, 30),
    ),
    min_size=1,
    max_size=9,
)
CHANCE = st.integers(0, 2**32 - 1).map(Random)
EXAMPLES = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize("held", HELD)
@given(rows=ROWS, random=CHANCE, prefixes=st.sampled_from([0, 1, 8]))
@EXAMPLES
def test_in_any_order_and_company_and_at_any_pace_with_or_without_shared_prefixes(
    held, rows, random, prefixes
):
    loop = Loop(engine(held), prefix_states=prefixes, tuner=AnySteps(random))
    waiting = random.sample(range(len(rows)), len(rows))
    answers = [Answer() for _ in rows]
    while waiting or not loop.idle:
        arriving = [waiting.pop() for _ in range(random.randint(0, len(waiting)))]
        loop.submit(rows[key].request(key) for key in arriving)
        for emission in loop.step():
            answers[emission.key] = answers[emission.key].and_then(emission)
    assert answers == [alone(row, held) for row in rows]


@pytest.mark.parametrize("held", HELD)
@given(rows=ROWS, random=CHANCE, every=st.integers(1, 6))
@EXAMPLES
def test_interrupted_at_any_block_and_resumed_on_any_engine(held, rows, random, every):
    answers, snapshots = [Answer() for _ in rows], [None for _ in rows]
    while unfinished := [key for key, answer in enumerate(answers) if answer.finish is None]:
        loops = [Loop(engine(held), prefix_states=2, tuner=AnySteps(random)) for _ in range(2)]
        for key in unfinished:
            random.choice(loops).submit([rows[key].request(key, snapshots[key])])
        emissions = [e for _ in range(every) for loop in loops for e in loop.step()]
        for emission in emissions + [e for loop in loops for e in loop.drain()]:
            answers[emission.key] = answers[emission.key].and_then(emission)
            snapshots[emission.key] = emission.snapshot
        every += 1  # a prompt of many chunks gets through in the end
    assert answers == [alone(row, held) for row in rows]


@pytest.mark.parametrize("held", HELD)
@given(rows=ROWS, random=CHANCE, dies_at=st.integers(2, 12))
@EXAMPLES
def test_killed_and_resumed_from_the_last_snapshots(held, rows, random, dies_at):
    published = [Answer() for _ in rows]
    snapshots: list[Snapshot | None] = [None for _ in rows]
    unpublished = list(published)
    loop = Loop(engine(held), prefix_states=2, tuner=AnySteps(random))
    loop.submit(row.request(key) for key, row in enumerate(rows))
    for _ in range(dies_at):
        loop.request_snapshot(random.randrange(len(rows)))
        for emission in loop.step():
            unpublished[emission.key] = unpublished[emission.key].and_then(emission)
            if emission.snapshot is not None or emission.finish is not None:
                published[emission.key] = unpublished[emission.key]
                snapshots[emission.key] = emission.snapshot
    resumed = Loop(engine(held))
    resumed.submit(
        row.request(key, snapshots[key])
        for key, row in enumerate(rows)
        if published[key].finish is None
    )
    while not resumed.idle:
        for emission in resumed.step():
            published[emission.key] = published[emission.key].and_then(emission)
    assert published == [alone(row, held) for row in rows]


@pytest.mark.parametrize(("held", "steps"), [("float32", STEPS), ("bfloat16", 1)])
def test_a_program_of_so_many_steps_says_what_one_of_any_number_does(held: str, steps: int) -> None:
    rows = [Row(31, 5, seed, 1, 30) for seed in range(SLOTS)]
    loop, answers = Loop(engine(held, steps)), [Answer() for _ in rows]
    loop.submit(row.request(key) for key, row in enumerate(rows))
    while not loop.idle:
        for emission in loop.step():
            answers[emission.key] = answers[emission.key].and_then(emission)
    assert answers == [alone(row, held) for row in rows]


def test_the_rows_of_these_tests_take_different_ways() -> None:
    rows = [Row(31, 5, seed, sampling, 30) for seed in range(4) for sampling in range(4)]
    answers = [alone(row, "float32") for row in rows]
    assert len({answer.tokens for answer in answers}) > len(rows) // 2
    assert {answer.finish for answer in answers} == {"stop", "length"}
    assert alone(replace(rows[0], head=63), "float32") != answers[0]
