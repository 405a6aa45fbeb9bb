"""The head fused with the choice of a block of the vocabulary; logits never leave VMEM.

A sampler that reads logits from memory takes longer than the product that makes them, and they are
larger than all other temporaries of a step. Here each block of `BLOCK` tokens is compared with the
best one so far, while the matrix units compute the next one's product:

    weight of a block     sum of exp(logit / temperature)
    choice                the largest of log(weight) + Gumbel noise: each block is chosen with
                          probability weight / sum of all weights (the Gumbel-max trick)

The result is the logits of the chosen block, from which the caller draws a token. For a row with
NaN among its logits, a block with NaN in it is chosen.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from rgpipeline.model import quantize
from rgpipeline.model.layers.array_types import shape_of
from rgpipeline.model.platforms import Kernels, on_tpu

BLOCK = 256
LOWEST = -3.4e38  # the logit of tokens past the vocabulary
_STEP_BLOCKS = 4  # per grid step
_TILE = {jnp.dtype(jnp.bfloat16): 16, jnp.dtype(jnp.int8): 32}  # rows of a memory tile
_MAX_ROWS = 256  # per product
_LANES = 128
_BITS = 8  # tokens of a byte of `allowed`
_VMEM_BYTES = 64 << 20


class Choice(NamedTuple):
    """A block for each row: its logits, float32 [b BLOCK], and its index, int32 [b]."""

    logits: Array
    block: Array


Choose = Callable[..., Choice]  # `choose`, without its last two arguments


def select(kernels: Kernels, batch: int, table: Any, soft_cap: float) -> Choose | None:
    """`choose` for these shapes; None where they aren't whole memory tiles of a TPU."""
    if not on_tpu(kernels) or batch % 16 or table.shape[1] % _LANES or table.dtype not in _TILE:
        return None
    return partial(choose, soft_cap=soft_cap, interpret=kernels == "interpret")


def choose(
    hidden: Array,
    table: Array,
    scale: Array | None,
    rate: Array,
    noise: Array,
    allowed: Array | None = None,
    *,
    soft_cap: float,
    interpret: Any = False,
) -> Choice:
    """Chooses a block of the vocabulary for each row, the logits being `primitives.logits`.

    Args:
        hidden: [b d].
        table: The head's matrix, bfloat16 or int8 [v d].
        scale: float32 [v], of a table in int8.
        rate: float32 [b], one over the temperature; 0 takes the block with the largest logit, the
            first such if there are several.
        noise: float32 [b ceil(v/BLOCK)]: a Gumbel variate for each block.
        allowed: uint8 [b ceil(v/8)], a bit for each token, the lowest one first: whether it may be
            chosen. None: all may.
        soft_cap: Bound of the logits; 0 for none.
        interpret: As in `pallas_call`.
    """
    asked, (vocab, width) = hidden.shape[0], table.shape
    rows, batch = _rows(asked, _TILE[table.dtype])
    tokens = BLOCK * _STEP_BLOCKS
    steps = pl.cdiv(vocab, tokens)
    missing = pl.cdiv(steps * _STEP_BLOCKS, _LANES) * _LANES - noise.shape[1]
    noise = jnp.pad(noise, ((0, batch - asked), (0, missing)))
    hidden, rate = (jnp.pad(one, ((0, batch - asked), (0, 0))) for one in (hidden, rate[:, None]))
    numbers, scales = (hidden.astype(table.dtype), []) if scale is None else _scaled(hidden, scale)
    one_column = pl.BlockSpec((batch, 1), lambda step: (0, 0))
    of_scales = [one_column, pl.BlockSpec((1, tokens), lambda step: (0, step))]
    masks, of_masks = ([], []) if allowed is None else _spread(allowed, batch, steps * tokens)
    column = pltpu.VMEM((batch, 1), jnp.float32)
    logits, block = pl.pallas_call(
        partial(_kernel, rows=rows, vocab=vocab, soft_cap=soft_cap, scales=len(scales)),
        grid=(steps,),
        in_specs=[
            pl.BlockSpec((batch, width), lambda step: (0, 0)),
            pl.BlockSpec((tokens, width), lambda step: (step, 0)),
            one_column,
            pl.BlockSpec((batch, _LANES), lambda step: (0, lax.div(step * _STEP_BLOCKS, _LANES))),
            *of_scales[: len(scales)],
            *of_masks,
        ],
        out_specs=[pl.BlockSpec((batch, BLOCK), lambda step: (0, 0)), one_column],
        out_shape=[shape_of((batch, BLOCK), jnp.float32), shape_of((batch, 1), jnp.int32)],
        scratch_shapes=[column, column],
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_VMEM_BYTES),
        interpret=interpret,
        name="head",
    )(numbers, table, rate, noise, *scales, *masks)
    return Choice(logits[:asked], block[:asked, 0])


def _rows(batch: int, tile: int) -> tuple[int, int]:
    """Rows per product, of as few products as possible, and rows in all: at least the batch."""
    products = pl.cdiv(batch, _MAX_ROWS)
    rows = pl.cdiv(pl.cdiv(batch, products), tile) * tile
    return rows, products * rows


def _scaled(hidden: Array, scale: Array) -> tuple[Array, list[Array]]:
    """Hidden values in int8, and the scales of a row [b 1] and of a token [1 v]."""
    numbers, of_rows = quantize.quantized_rows(hidden)
    return numbers, [of_rows[:, None], scale[None]]


def _spread(allowed: Array, batch: int, vocab: int) -> tuple[list[Array], list[Any]]:
    """The bits as bfloat16 bytes [batch vocab/8], a matrix that repeats each 8 times; their blocks.

    A byte is a whole number below 256, which bfloat16 and a product with ones keep exactly. The
    matrix units repeat numbers along the lanes, which the vector units can't do.
    """
    tokens = BLOCK * _STEP_BLOCKS
    missing = (batch - allowed.shape[0], vocab // _BITS - allowed.shape[1])
    numbers = jnp.pad(allowed.astype(jnp.bfloat16), [(0, many) for many in missing])
    byte = lax.broadcasted_iota(jnp.int32, (tokens // _BITS, tokens), 0)
    token = lax.broadcasted_iota(jnp.int32, (tokens // _BITS, tokens), 1)
    repeat = (token // _BITS == byte).astype(jnp.bfloat16)
    specs = [
        pl.BlockSpec((batch, tokens // _BITS), lambda step: (0, step)),
        pl.BlockSpec(repeat.shape, lambda step: (0, 0)),
    ]
    return [numbers, repeat], specs


def _kernel(
    hidden: Any,
    table: Any,
    rate: Any,
    noise: Any,
    *refs: Any,
    rows: int,
    vocab: int,
    soft_cap: float,
    scales: int,
) -> None:
    """`highest` [b 1]: the largest logit of the block chosen so far; `bonus`: log(weight) + noise.

    Two blocks are compared by the difference of their largest logits, so that a low temperature
    loses no precision.
    """
    *inputs, chosen, block, highest, bonus = refs
    scaling, masks = inputs[:scales], inputs[scales:]
    step = pl.program_id(0)
    batch, tokens = hidden.shape[0], table.shape[0]
    lane = lax.broadcasted_iota(jnp.int32, (rows, _LANES), 1)
    token = lax.broadcasted_iota(jnp.int32, (1, tokens), 1) + step * tokens

    @pl.when(step == 0)
    def begin() -> None:
        highest[...] = jnp.full_like(highest, LOWEST)
        bonus[...] = jnp.zeros_like(bonus)

    def some_rows(group: Any, _: None) -> None:
        these = pl.ds(pl.multiple_of(group * rows, rows), rows)
        product = lax.dot_general(
            hidden[these],
            table[...],
            (((1,), (1,)), ((), ())),
            preferred_element_type=jnp.int32 if scaling else jnp.float32,
        )
        if scaling:
            of_rows, of_tokens = scaling
            product = product.astype(jnp.float32) * of_rows[these] * of_tokens[...]
        capped = jnp.tanh(product * (1 / soft_cap)) * soft_cap if soft_cap else product
        logits = jnp.where(token < vocab, capped, LOWEST)
        if masks:
            logits = jnp.where(_bits(masks[0][these], masks[1][...]) != 0, logits, LOWEST)
        speed = rate[these]
        draws = speed > 0
        best, extra, index, kept = highest[these], bonus[these], block[these], chosen[these]
        for one in range(_STEP_BLOCKS):
            inside = logits[:, one * BLOCK : (one + 1) * BLOCK]
            most = jnp.max(inside, axis=-1, keepdims=True)
            weight = jnp.sum(jnp.exp((inside - most) * speed), axis=-1, keepdims=True)
            here = lane == (step * _STEP_BLOCKS & (_LANES - 1)) + one
            mine = jnp.sum(jnp.where(here, noise[these], 0.0), axis=-1, keepdims=True)
            more = jnp.log(weight) + jnp.where(draws, mine, 0.0)
            ahead = (most - best) * jnp.where(draws, speed, 1.0)
            # A block with NaN or infinity in it has a weight of NaN. It is chosen, and kept: later
            # no comparison with NaN is true.
            better = (ahead > extra - more) | (more != more)
            best, extra = jnp.where(better, most, best), jnp.where(better, more, extra)
            index = jnp.where(better, step * _STEP_BLOCKS + one, index)
            kept = jnp.where(better, inside, kept)
        highest[these], bonus[these], block[these], chosen[these] = best, extra, index, kept

    if batch == rows:
        some_rows(0, None)
    else:
        lax.fori_loop(0, batch // rows, some_rows, None)


def _bits(numbers: Array, repeat: Array) -> Array:
    """Each token's bit, int32 [r t] of 0 and 1, from parts of what `_spread` returns."""
    repeated = jnp.dot(numbers, repeat, preferred_element_type=jnp.float32).astype(jnp.int32)
    bit = lax.broadcasted_iota(jnp.int32, (1, repeat.shape[1]), 1) & (_BITS - 1)
    return (repeated >> bit) & 1
