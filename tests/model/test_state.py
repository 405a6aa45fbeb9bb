"""Padding and inactive rows leave no trace; positions count past 2^31."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.model.config import ATTENTION, RECURRENT, GriffinConfig
from rgpipeline.model.griffin_state import GriffinState, Position, advance, at_start, start
from rgpipeline.model.params import random_params
from tests.model.running import Runner

CONFIG = GriffinConfig(
    vocab_size=61,
    width=32,
    mlp_width=48,
    heads=2,
    lru_width=32,
    block_types=(RECURRENT, ATTENTION),
    window=6,
)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def runner(request: pytest.FixtureRequest) -> Runner:
    return Runner(
        CONFIG, random_params(CONFIG, 0, request.param), jnp.dtype(request.param), optimized=True
    )


@pytest.fixture(scope="module")
def used(runner: Runner) -> GriffinState:
    prompts = [np.arange(n, dtype=np.int32) for n in (4, 17)]
    return runner.in_chunks(prompts, 5)[1]


def assert_same_bits(found: object, expected: object, row: int) -> None:
    jax.tree.map(lambda f, e: assert_bytes(f[row], e[row]), found, expected)


def assert_bytes(found: jax.Array, expected: jax.Array) -> None:
    assert np.asarray(found).tobytes() == np.asarray(expected).tobytes()


def test_a_chunk_of_padding_changes_no_bit(runner: Runner, used: GriffinState) -> None:
    tokens = np.full((2, 5), 7, np.int32)
    _, after = runner.prefill(tokens, np.array([3, 0], np.int32), used)
    assert_same_bits(after, used, row=1)


def test_what_padding_holds_changes_no_bit(runner: Runner, used: GriffinState) -> None:
    lengths = np.array([3, 2], np.int32)
    _, one = runner.prefill(np.full((2, 5), 7, np.int32), lengths, used)
    _, other = runner.prefill(np.array([[7, 7, 7, 1, 2], [7, 7, 3, 4, 5]], np.int32), lengths, used)
    for row in range(2):
        assert_same_bits(one, other, row)


def test_a_neighbour_changes_no_bit(runner: Runner, used: GriffinState) -> None:
    lengths = np.array([5, 5], np.int32)
    mine = np.array([1, 2, 3, 4, 5], np.int32)
    _, one = runner.prefill(np.stack([mine, mine]), lengths, used)
    _, other = runner.prefill(np.stack([mine, mine + 9]), lengths, used)
    assert_same_bits(one, other, row=0)


def test_decoding_leaves_inactive_rows_as_they_are(runner: Runner, used: GriffinState) -> None:
    _, after = runner.decode(np.array([5, 5], np.int32), np.array([True, False]), used)
    assert_same_bits(after, used, row=1)
    assert int(after.position.low[0]) == int(used.position.low[0]) + 1


def test_a_fresh_row_is_at_the_start_and_a_used_one_is_not() -> None:
    position = advance(start(2), jnp.array([0, 8192], jnp.int32), window=6)
    assert at_start(position).tolist() == [True, False]


@pytest.mark.parametrize("count", [1, 5, 4096])
@pytest.mark.parametrize("before", [8190, 2**16 - 2, 2**31 - 3, 2**40])
def test_positions_are_exact(before: int, count: int) -> None:
    window, after = 2048, before + count
    position = advance(position_at(before, window), jnp.array([count], jnp.int32), window)
    assert int(position.high[0]) * 8192 + int(position.low[0]) == after
    assert int(position.ring[0]) == after % window
    assert int(position.filled[0]) == window


def position_at(place: int, window: int) -> Position:
    fields = (place // 8192, place % 8192, place % window, min(place, window))
    return Position(*(jnp.array([field], jnp.int32) for field in fields))
