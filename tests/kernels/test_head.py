"""The head kernel: which blocks it chooses, and the logits it keeps of them."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rgpipeline.engine.sampling.draw import noise, rate_of, token_of
from rgpipeline.model.griffin_state import Position
from rgpipeline.model.kernels.head import BLOCK, LOWEST, Choice, choose, select
from rgpipeline.model.ops.primitives import logits
from rgpipeline.model.quantize import quantized_rows

ROWS, WIDTH, CAP = 512, 128, 30.0
VOCAB = 5 * BLOCK + 40  # more than a grid step, and the last block is not whole
BLOCKS = 6
rng = np.random.default_rng(0)
TABLE = jnp.asarray(rng.normal(size=(VOCAB, WIDTH)), jnp.bfloat16)
INT8, SCALE = quantized_rows(TABLE)
HIDDEN = jnp.asarray(rng.normal(size=(ROWS, WIDTH)) * 0.3, jnp.bfloat16)


def run(
    hidden, temperature, at: int = 5, quantized: bool = False, allowed: np.ndarray | None = None
) -> tuple[Choice, np.ndarray]:
    """The choice and the tokens; each row has random bits of its own."""
    rows = hidden.shape[0]
    words = jnp.stack([jnp.arange(rows, dtype=jnp.uint32), jnp.full(rows, 9, jnp.uint32)], axis=1)
    position = Position(*(jnp.full(rows, value, jnp.int32) for value in (0, at, 0, 0)))
    gumbel, uniform = noise(words, position, BLOCKS)
    rate = rate_of(jnp.asarray(temperature, jnp.float32))
    table = (INT8, SCALE) if quantized else (TABLE, None)
    masks = None if allowed is None else np.packbits(allowed, axis=1, bitorder="little")
    choice = choose(hidden, *table, rate, gumbel, masks, soft_cap=CAP, interpret=True)
    return choice, np.asarray(token_of(choice, rate, uniform))


def same_hidden(rows: int) -> jnp.ndarray:
    return jnp.broadcast_to(HIDDEN[:1], (rows, WIDTH))


def logits_of(quantized: bool) -> np.ndarray:
    """The plain way's."""
    table, scale = (INT8, SCALE) if quantized else (TABLE, None)
    return np.asarray(logits(table, HIDDEN, CAP, scale))


@pytest.mark.parametrize("quantized", [False, True])
def test_greedy_rows_get_the_most_probable_token(quantized: bool) -> None:
    expected = logits_of(quantized).argmax(-1)
    found = run(HIDDEN, np.zeros(ROWS), quantized=quantized)[1]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("quantized", [False, True])
def test_the_logits_kept_are_those_of_the_block_select(quantized: bool) -> None:
    choice, _ = run(HIDDEN, np.full(ROWS, 3.0), quantized=quantized)
    logits = np.full((ROWS, BLOCKS * BLOCK), LOWEST, np.float32)
    logits[:, :VOCAB] = logits_of(quantized)
    expected = logits.reshape(ROWS, BLOCKS, BLOCK)[np.arange(ROWS), choice.block]
    np.testing.assert_allclose(choice.logits, expected, atol=2e-4)
    assert len(set(np.asarray(choice.block).tolist())) == BLOCKS


@pytest.mark.parametrize("quantized", [False, True])
def test_masked_rows_take_allowed_tokens_and_others_keep_their_bits(quantized: bool) -> None:
    masked, drawn = np.arange(ROWS) % 2 == 0, np.arange(ROWS) % 4 >= 2
    allowed = rng.random((ROWS, VOCAB)) < 0.01
    allowed[::8] = np.arange(VOCAB) == VOCAB - 1
    allowed[~masked] = True
    temperature = np.where(drawn, 1.5, 0)
    choice, tokens = run(HIDDEN, temperature, quantized=quantized, allowed=allowed)
    assert allowed[np.arange(ROWS), tokens].all()
    best = np.where(allowed, logits_of(quantized), -np.inf).argmax(-1)
    np.testing.assert_array_equal(tokens[~drawn], best[~drawn])
    plain, plain_tokens = run(HIDDEN, temperature, quantized=quantized)
    np.testing.assert_array_equal(tokens[~masked], plain_tokens[~masked])
    np.testing.assert_array_equal(choice.logits[~masked], plain.logits[~masked])


def chance_of(tokens: np.ndarray, scaled: np.ndarray) -> float:
    """How probable draws as unlikely as these are under scaled logits [v]: a chi-square test."""
    expected = np.exp(scaled - scaled.max())
    expected *= len(tokens) / expected.sum()
    counts = np.bincount(tokens, minlength=VOCAB)
    likely = expected >= 5
    observed = np.append(counts[likely], counts[~likely].sum())
    wanted = np.append(expected[likely], expected[~likely].sum())
    return float(stats.chisquare(observed, wanted).pvalue)


def test_masked_tokens_follow_the_exact_distribution_of_those_allowed() -> None:
    rows = 16_384
    allowed = np.arange(VOCAB) % 9 == 4
    wide = np.broadcast_to(allowed, (rows, VOCAB))
    tokens = run(same_hidden(rows), np.full(rows, 2.0), allowed=wide)[1]
    scaled = np.where(allowed, np.float64(logits(TABLE, HIDDEN[:1], CAP)[0]) / 2.0, -np.inf)
    assert chance_of(tokens, scaled) > 1e-4


@pytest.mark.parametrize("temperature", [0.4, 1.0, 4.0])
def test_tokens_follow_the_exact_distribution(temperature: float) -> None:
    rows = 16_384
    tokens = run(same_hidden(rows), np.full(rows, temperature))[1]
    scaled = np.float64(logits(TABLE, HIDDEN[:1], CAP)[0]) / temperature
    assert chance_of(tokens, scaled) > 1e-4


def test_blocks_and_tokens_at_different_positions_are_independent() -> None:
    rows = 8192
    hidden = same_hidden(rows) * 0
    first, second = (run(hidden, np.ones(rows), at)[0].block for at in (5, 6))
    table = np.histogram2d(first, second, bins=(5, 5), range=[(0, 5), (0, 5)])[0]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_a_temperature_near_zero_is_greedy() -> None:
    greedy = run(HIDDEN, np.zeros(ROWS))[1]
    np.testing.assert_array_equal(run(HIDDEN, np.full(ROWS, 1e-9))[1], greedy)


def test_a_rows_token_does_not_depend_on_its_neighbours() -> None:
    temperature = np.linspace(0, 5, ROWS)
    others = HIDDEN.at[1:].set(0)
    assert run(HIDDEN, temperature[::-1])[1][0] == run(others, temperature[::-1])[1][0]


@pytest.mark.parametrize("quantized", [False, True])
def test_rows_that_fill_no_whole_products_get_what_they_do_among_others(quantized: bool) -> None:
    some = run(HIDDEN[:272], np.ones(272), quantized=quantized)[1]
    np.testing.assert_array_equal(some, run(HIDDEN, np.ones(ROWS), quantized=quantized)[1][:272])


@pytest.mark.parametrize(
    ("batch", "width", "dtype"), [(8, 128, "bfloat16"), (16, 96, "bfloat16"), (16, 128, "float32")]
)
def test_shapes_the_tiles_forbid_are_left_to_the_plain_way(batch, width, dtype) -> None:
    assert select("tpu", batch, jnp.zeros((512, width), dtype), CAP) is None
