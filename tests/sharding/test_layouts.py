"""Several chips say what one says, however they are divided; on eight CPU devices."""

import json
from typing import Any

import numpy as np
import pytest

from tests.processes import output_of

EIGHT = {
    "JAX_PLATFORMS": "cpu",
    # Eight devices on few cores, and more to compile than to run.
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false "
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
}
DIVIDED = ("1x8", "2x4", "4x2", "8x1")  # data x model
CLOSE = 2e-5  # float32 sums in another order


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("layouts") / "told.json"
    output_of("tests.sharding.on_eight", str(path), environment=EIGHT)
    answers: dict[str, Any] = json.loads(path.read_text())
    return answers


@pytest.mark.parametrize("layout", DIVIDED)
def test_every_layout_generates_what_one_device_does(told: dict[str, Any], layout: str) -> None:
    alone, divided = told["1x1"]["at once"], told[layout]["at once"]

    assert divided["tokens"] == alone["tokens"]
    for found, expected in zip(divided["logprobs"], alone["logprobs"], strict=True):
        np.testing.assert_allclose(found, expected, atol=CLOSE)


@pytest.mark.parametrize("layout", DIVIDED)
def test_every_layout_scores_as_one_device_does(told: dict[str, Any], layout: str) -> None:
    for found, expected in zip(told[layout]["scores"], told["1x1"]["scores"], strict=True):
        np.testing.assert_allclose(found, expected, atol=CLOSE)


@pytest.mark.parametrize("layout", DIVIDED)
def test_within_a_layout_bytes_depend_on_no_slot_company_or_interruption(
    told: dict[str, Any], layout: str
) -> None:
    assert told[layout]["interrupted"] == told[layout]["at once"]


def test_a_sequence_goes_on_from_one_layout_to_the_next(told: dict[str, Any]) -> None:
    for moved in told["moved"]:
        assert moved["tokens"] == told["1x1"]["at once"]["tokens"]


def test_rows_with_grammars_are_those_of_one_device(told: dict[str, Any]) -> None:
    alone, divided = told["structured"]

    assert divided == alone
    for row, tokens in enumerate(alone):
        if row % 2:
            assert len(tokens) == 8
            assert all(token % (row + 1) == 0 for token in tokens)


def test_the_rows_of_these_tests_differ(told: dict[str, Any]) -> None:
    tokens = told["1x1"]["at once"]["tokens"]

    assert len({tuple(row) for row in tokens}) == len(tokens) == 18


def test_a_step_sums_twice_a_block_and_moves_neither_weights_nor_state(
    told: dict[str, Any],
) -> None:
    """Four blocks, one of them attention."""
    assert told["collectives"]["2x4"]["decode"] == {
        "all-reduce": 1,  # the embeddings
        "all-to-all": 2 * 4 + 2 * 1 + 1,  # halves of blocks; queries and their answers; logits
        "all-gather": 2 * 4 + 1,  # halves of blocks; the tokens drawn
    }


def test_of_two_chips_each_sum_is_one_all_reduce(told: dict[str, Any]) -> None:
    assert told["collectives"]["4x2"]["decode"] == {
        "all-reduce": 1 + 2 * 4,
        "all-to-all": 2 * 1 + 1,
        "all-gather": 1,
    }


def test_a_chunk_of_prompts_takes_no_more(told: dict[str, Any]) -> None:
    """Of the last block the state is wanted, and its output is nobody's."""
    assert told["collectives"]["2x4"]["prefill"] == {
        "all-reduce": 1,
        "all-to-all": 2 * 3 + 2 * 1,
        "all-gather": 2 * 3,
    }


@pytest.mark.parametrize("layout", ["2x4", "4x2"])
def test_a_sequence_is_seated_without_a_word_between_chips(
    told: dict[str, Any], layout: str
) -> None:
    assert told["collectives"][layout]["insert"] == {}
