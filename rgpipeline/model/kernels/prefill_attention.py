"""A chunk's attention over the ring before it and over itself, and the ring's update, in one pass.

Scores never reach memory; XLA spends most of the time on them. The ring is updated without a
gather. Queries are processed in tiles, and keys block by block (see `prefill_tiles`); blocks of
which a tile sees nothing are skipped.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.typing import DTypeLike

from rgpipeline.model.griffin_state import AttentionState, Position
from rgpipeline.model.kernels.prefill_tiles import LANES, Plan, Sums
from rgpipeline.model.kernels.ring_copies import clip_finite
from rgpipeline.model.layers import attention
from rgpipeline.model.layers.array_types import shape_of
from rgpipeline.model.platforms import Kernels, on_tpu

_TILE = 256  # queries of a tile and keys of a block, at most
_MAX_TOKENS = 4096  # of a chunk, which must fit into VMEM
_ROWS = 16  # of a bfloat16 memory tile, the smallest unit of a write
_VMEM_BYTES = 64 << 20

Prefill = Callable[..., tuple[Array, AttentionState]]


def select(
    kernels: Kernels, length: int, ring: tuple[int, ...], dtype: DTypeLike
) -> Prefill | None:
    """`prefill` for chunks of `length` and rings [b w h] of `dtype`; None where it can't be used.

    Its shapes must be whole memory tiles of a TPU.
    """
    _, window, size = ring
    fits = length % _ROWS == 0 and length <= _MAX_TOKENS
    fits = fits and window % LANES == 0 and size // 2 % LANES == 0
    if not on_tpu(kernels) or not fits or dtype != jnp.bfloat16:
        return None
    return partial(prefill, interpret=kernels == "interpret")


def prefill(
    queries: Array,
    key_value: Array,
    angles: attention.Angles,
    state: AttentionState,
    position: Position,
    lengths: Array,
    *,
    interpret: Any = False,
) -> tuple[Array, AttentionState]:
    """The same as `attention.prefill`, and RoPE before it.

    Args:
        queries: float32 [b t n h], before RoPE.
        key_value: Keys before RoPE and values, float32 [2 b t h].
        angles: Of the tokens.
        state: The rings before the chunk.
        position: Where each row is before the chunk.
        lengths: int32 [b]; the output of tokens past a row's length is finite and meaningless.
        interpret: As in `pallas_call`.

    Returns:
        bfloat16 [b t n h], and the rings after the tokens that count.
    """
    batch, length, heads, size = queries.shape
    window = state.keys.shape[1]
    queries, key_value, *turns = (
        _padded(array) for array in (queries.reshape(batch, length, -1), key_value, *_turns(angles))
    )
    tokens = queries.shape[1]
    tile = _TILE if tokens % _TILE == window % _TILE == 0 else LANES
    plan = Plan(tile, window, tokens // tile)

    def of_tile(row: Array, at: Array, *_: Any) -> tuple[Array, Array, int]:
        return row, at, 0

    def of_row(row: Array, *_: Any) -> tuple[Array, int, int]:
        return row, 0, 0

    mix, ring, turn = (
        pl.BlockSpec((1, tile, heads * size), of_tile),
        pl.BlockSpec((1, window, size), of_row),
        pl.BlockSpec((1, tokens, size // 2), of_row),
    )
    both = pl.BlockSpec((2, 1, tokens, size), lambda row, *_: (0, row, 0, 0))
    mixed, *rings = pl.pallas_call(
        partial(_kernel, plan=plan),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(batch, plan.tiles),
            in_specs=[mix, ring, ring, both, turn, turn],
            out_specs=[mix, ring, ring],
            scratch_shapes=[
                pltpu.VMEM((tile, heads * size), state.keys.dtype),
                pltpu.VMEM((2, tokens, size), state.keys.dtype),
                *Sums.scratch(heads, tile, size),
            ],
        ),
        out_shape=[
            shape_of(queries.shape, state.keys.dtype),
            *(shape_of(one.shape, one.dtype) for one in state),
        ],
        input_output_aliases={4: 1, 5: 2},  # operands count from the prefetched scalars on
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_VMEM_BYTES),
        interpret=interpret,
        name="prefill_attention",
    )(position.ring, position.filled, lengths, queries, *state, key_value, *turns)
    return mixed[:, :length].reshape(batch, length, heads, size), AttentionState(*rings)


def _padded(array: Array) -> Array:
    """To whole tiles along the tokens, the last axis but one."""
    missing = -array.shape[-2] % LANES
    return jnp.pad(array, [*[(0, 0)] * (array.ndim - 2), (0, missing), (0, 0)])


def _turns(angles: attention.Angles) -> tuple[Array, Array]:
    """RoPE's factors for the first half of a head and for its rolled half."""
    cos, sin = angles
    return jnp.concatenate([cos, cos], axis=-1), jnp.concatenate([-sin, sin], axis=-1)


def _kernel(
    ring: Any,
    filled: Any,
    lengths: Any,
    queries: Any,
    ring_keys: Any,
    ring_values: Any,
    key_value: Any,
    cos: Any,
    sin: Any,
    mixed: Any,
    *refs: Any,
    plan: Plan,
) -> None:
    rings_after, turned, own, sums = refs[:2], refs[2], refs[3], Sums(*refs[4:])
    row, tile = pl.program_id(0), pl.program_id(1)

    @pl.when(tile == 0)
    def begin() -> None:
        own[0] = _turned(key_value[0, 0], cos[0], sin[0]).astype(own.dtype)
        own[1] = key_value[1, 0].astype(own.dtype)
        for which, before in enumerate((ring_keys, ring_values)):
            rings_after[which][...] = before[...]
            _write(rings_after[which], own.at[which], ring[row], lengths[row])

    these = pl.ds(pl.multiple_of(tile * plan.tile, plan.tile), plan.tile)
    for lanes in sums.heads():
        of_head = _turned(queries[0, :, lanes], cos[0, these], sin[0, these])
        turned[:, lanes] = of_head.astype(turned.dtype)
    sums.begin()

    def take(step: Array, _: None) -> None:
        block = plan.chunk_block(tile, step)
        in_ring = block < 0
        needed = ~in_ring | plan.holds(tile, step, ring[row], filled[row])

        @pl.when((tile * plan.tile < lengths[row]) & needed)
        def see() -> None:
            old = pl.multiple_of(plan.ring_block(tile, step, ring[row]) * plan.tile, plan.tile)
            new = pl.multiple_of(jnp.maximum(block, 0) * plan.tile, plan.tile)
            seen_keys, seen_values = (
                _either(in_ring, past[0, pl.ds(old, plan.tile)], own[which, pl.ds(new, plan.tile)])
                for which, past in enumerate((ring_keys, ring_values))
            )
            visible = plan.visible(tile, in_ring, old, new, ring[row], filled[row])
            sums.add(turned, seen_keys, seen_values, visible)

    lax.fori_loop(0, plan.steps, take, None)
    sums.finish(mixed)


def _turned(x: Array, cos: Array, sin: Array) -> Array:
    """RoPE of [s h], `attention.rotate` with the pairs side by side."""
    half = cos.shape[-1]
    first = x[:, :half]
    first = first * cos + pltpu.roll(first, half // 2, axis=1) * sin
    return jnp.concatenate([first, x[:, half:]], axis=1)


def _write(after: Any, new: Any, ring: Array, length: Array) -> None:
    """Writes the tokens of a chunk that count into a ring, tile by tile.

    If a chunk begins inside a tile, each of the ring's tiles takes tokens from two of the chunk's.
    """
    first = ring & (_ROWS - 1)
    window, tiles = after.shape[1], new.shape[0] // _ROWS

    def put(tile: Array, _: None) -> None:
        before, here = (jnp.clip(tile - back, 0, tiles - 1) * _ROWS for back in (1, 0))
        pair = [new[pl.ds(pl.multiple_of(at, _ROWS), _ROWS)] for at in (before, here)]
        turned = pltpu.roll(jnp.concatenate(pair, axis=0).astype(jnp.float32), first, axis=0)
        index = tile * _ROWS - first + lax.broadcasted_iota(jnp.int32, (_ROWS, 1), 0)
        counts = (index >= 0) & (index < length)
        slots = pl.ds(pl.multiple_of(lax.rem(ring - first + tile * _ROWS, window), _ROWS), _ROWS)
        old = after[0, slots].astype(jnp.float32)
        now = jnp.where(counts, clip_finite(turned[_ROWS:], after.dtype), old)
        after[0, slots] = now.astype(after.dtype)

    lax.fori_loop(0, tiles + 1, put, None)


def _either(first: Array, one: Array, other: Array) -> Array:
    """One array or the other, by a scalar; in float32, because masks have 32 bits."""
    chosen = jnp.where(first, one.astype(jnp.float32), other.astype(jnp.float32))
    return chosen.astype(one.dtype)
