"""The official library's continuations and probabilities, through the door that users take."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from rgpipeline import Generator
from tests.model.golden import CASES, FOLDER, Golden

TOLERANCE = 2e-4
SHAPE = (4, 32)  # slots, chunk
OTHER_SHAPES = ((1, 16), (9, 24))


@cache
def generator(folder: Path, slots: int, chunk: int) -> Generator:
    return Generator.load(str(folder), dtype="float32", slots=slots, prefill_chunk=chunk)


@pytest.fixture(params=["hf", "official"])
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_all_prompts_at_once_in_any_order(golden: Golden, layout: str) -> None:
    assert_continuations(golden, layout, *SHAPE)


@pytest.mark.parametrize(("slots", "chunk"), OTHER_SHAPES)
def test_in_any_number_of_slots(slots: int, chunk: int) -> None:
    assert_continuations(Golden("a2"), "hf", slots, chunk)


def assert_continuations(golden: Golden, layout: str, slots: int, chunk: int) -> None:
    greedy = {"temperature": 0, "max_tokens": golden.steps, "ignore_eos": True, "logprobs": 5}
    order = np.random.default_rng(slots).permutation(len(golden.prompts))
    engine = generator(golden.folder / layout, slots, chunk)
    done = engine.generate([golden.prompts[i].tolist() for i in order], greedy)
    for index, completion in zip(order, done, strict=True):
        assert completion.token_ids == golden.greedy[index].tolist()
        assert completion.finish_reason == "length"
        assert completion.logprobs is not None
        found = np.sort(completion.logprobs.top, axis=-1)
        expected = np.sort(golden.top_logprobs[index], axis=-1)
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_end_tokens_end_a_completion(golden: Golden) -> None:
    engine = generator(golden.folder / "hf", *SHAPE)
    greedy = {"temperature": 0, "max_tokens": golden.steps}
    done = engine.generate([prompt.tolist() for prompt in golden.prompts], greedy)
    for completion, expected in zip(done, golden.greedy.tolist(), strict=True):
        end = expected.index(1) if 1 in expected else None
        assert completion.token_ids == expected[:end]
        assert completion.finish_reason == ("length" if end is None else "stop")


def test_scores_are_the_official_log_probabilities(golden: Golden, layout: str) -> None:
    engine = generator(golden.folder / layout, *SHAPE)
    found = engine.score(golden.prompts)
    for score, logits, prompt in zip(found, golden.logits, golden.prompts, strict=True):
        logprobs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        expected = np.take_along_axis(logprobs[:-1], prompt[1:, None], axis=-1)[:, 0]
        assert score.dtype == np.float32
        np.testing.assert_allclose(score, expected, atol=TOLERANCE)


def test_every_case_there_is_is_tried() -> None:
    assert {path.parent.name for path in FOLDER.glob("*/meta.json")} == set(CASES)
