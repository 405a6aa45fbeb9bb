"""One token's attention over the ring of each sequence, and the ring's update, in one pass.

XLA reads keys and values at half the memory's rate, because it doesn't overlap the reads with
anything. Here they are copied into VMEM while the sequences before them are computed. Chunks of a
ring that hold nothing are not read, and only the tile with the new token is written back.

    step       0        1        2            the grid: one step more than there are groups
    fetches    group 0  group 1  -            into one half of the buffers
    computes   -        group 0  group 1      from the other
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from rgpipeline.model.griffin_state import AttentionState, Position, QuantizedAttentionState, Rings
from rgpipeline.model.kernels import ring_copies
from rgpipeline.model.kernels.ring_copies import CHUNK, Refs
from rgpipeline.model.layers.array_types import shape_of
from rgpipeline.model.layers.attention import MASKED
from rgpipeline.model.layers.rings import to_storage
from rgpipeline.model.platforms import Kernels, on_tpu
from rgpipeline.model.quantize import LEAST_SCALE

_VMEM_BYTES = 32 << 20
_SUBLANES = 8
_DIGIT = 128.0

Decode = Callable[..., tuple[Array, Rings]]


def select(kernels: Kernels, state: Rings) -> Decode | None:
    """`decode` for these rings; None where shapes aren't whole memory tiles of a TPU."""
    batch, window, size = state.keys.shape
    fits = batch % _group(state) == 0 and window % CHUNK == 0 and size % 128 == 0
    if not on_tpu(kernels) or not fits or state.keys.dtype == jnp.float32:
        return None
    return partial(decode, interpret=kernels == "interpret")


def decode(
    queries: Array,
    keys: Array,
    values: Array,
    state: Rings,
    position: Position,
    active: Array,
    *,
    interpret: Any = False,
) -> tuple[Array, Rings]:
    """As `temporal.attention_decode`, whose arguments it takes; `interpret` as in `pallas_call`."""
    batch, _, asked, size = queries.shape
    heads = asked if isinstance(state, AttentionState) else pl.cdiv(asked, _SUBLANES) * _SUBLANES
    queries = jnp.pad(queries[:, 0], ((0, 0), (0, heads - asked), (0, 0)))
    group, new, scalars = _group(state), *_new(keys, values, state)
    scalars = [position.ring, jnp.where(active, position.filled, -1), *scalars]
    in_hbm = pl.BlockSpec(memory_space=pl.ANY)
    mixed, *rings = pl.pallas_call(
        partial(_kernel, arrays=len(state)),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(scalars),
            grid=(batch // group + 1,),
            in_specs=[
                _computed(group, heads, size),
                _computed(group, 2, size),
                *[in_hbm] * len(state),
            ],
            out_specs=[_computed(group, heads, size), *[in_hbm] * len(state)],
            scratch_shapes=ring_copies.scratch(state, group),
        ),
        out_shape=[
            shape_of((batch, heads, size), jnp.float32),
            *(shape_of(ring.shape, ring.dtype) for ring in state),
        ],
        # Operands count from the scalars on.
        input_output_aliases={len(scalars) + 2 + ring: 1 + ring for ring in range(len(state))},
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_VMEM_BYTES),
        interpret=interpret,
        name="decode_attention",
    )(*scalars, queries, new, *state)
    return mixed[:, None, :asked], type(state)(*rings)


def _group(state: Rings) -> int:
    """Sequences per step: the products of one fill the waits of the others."""
    return 2 if isinstance(state, AttentionState) else 4


def _new(keys: Array, values: Array, state: Rings) -> tuple[Array, list[Array]]:
    """The new tokens' keys and values, [b 2 h], and their scales if they are quantized."""
    if isinstance(state, AttentionState):
        return jnp.concatenate([keys, values], axis=1), []
    stored = to_storage(keys, values, state)
    assert isinstance(stored, QuantizedAttentionState)
    new = jnp.concatenate([stored.keys, stored.values], axis=1).astype(jnp.int32)
    return new, [stored.scales.reshape(-1)]


def _computed(group: int, *shape: int) -> pl.BlockSpec:
    """The block of the group that a step computes: the one before the group it fetches."""
    return pl.BlockSpec(
        (group, *shape), lambda step, *_: (jnp.maximum(step - 1, 0),) + (0,) * len(shape)
    )


def _kernel(*refs: Any, arrays: int) -> None:
    these = _sorted(refs, arrays)
    step, last = pl.program_id(0), pl.num_programs(0) - 1

    @pl.when(step < last)
    def fetch() -> None:
        ring_copies.fetch(these, step)

    @pl.when(step > 0)
    def compute() -> None:
        ring_copies.finish_fetch(these, step - 1)
        pl.when(step > 2)(partial(ring_copies.finish_write, these, step - 3))
        for member in range(these.group):
            ring_copies.write(these, step - 1, member)
        for member in range(these.group):
            _attend(these, step - 1, member)

    @pl.when(step == last)
    def finish() -> None:
        pl.when(step > 1)(partial(ring_copies.finish_write, these, step - 2))
        ring_copies.finish_write(these, step - 1)


def _sorted(refs: tuple[Any, ...], arrays: int) -> Refs:
    """Scalars, queries, new tokens, rings, results, rings again, buffers, tiles, semaphores.

    `arrays` is the number of a ring's arrays; there are as many scalars.
    """
    ring, count, *new_scales = refs[:arrays]
    queries, new = refs[arrays : arrays + 2]
    # The rings are the same memory as inputs and as outputs; the outputs can be written.
    mixed, *rest = refs[2 * arrays + 2 :]
    rings, buffers, tiles = (tuple(rest[i * arrays : (i + 1) * arrays]) for i in range(3))
    scales = new_scales[0] if new_scales else None
    return Refs(ring, count, scales, queries, new, mixed, rings, buffers, tiles, *rest[-2:])


def _attend(refs: Refs, group: Array, member: int) -> None:
    """Softmax attention of one sequence over its ring before the token, and the token."""
    queries = refs.queries[member]
    new_key, new_value = _new_token(refs, group, member)
    scale = queries.shape[-1] ** -0.5
    slot = lax.broadcasted_iota(jnp.int32, (queries.shape[0], refs.window), 1)
    known = slot < refs.count[group * refs.group + member]
    scores = jnp.where(known, _times_keys(refs, group, member, queries) * scale, MASKED)
    own = jnp.sum(queries.astype(jnp.float32) * new_key, axis=-1, keepdims=True) * scale
    highest = jnp.maximum(jnp.max(scores, axis=-1, keepdims=True), own)
    weights, own_weight = jnp.exp(scores - highest), jnp.exp(own - highest)
    total = jnp.sum(weights, axis=-1, keepdims=True) + own_weight
    mixed = _times_values(refs, group, member, weights)
    own_mixed = own_weight.astype(queries.dtype).astype(jnp.float32) * new_value
    refs.mixed[member] = (mixed + own_mixed) / total


def _new_token(refs: Refs, group: Array, member: int) -> list[Array]:
    """The new key and the new value, float32 [1 h]."""
    new = [refs.new[member, which][None].astype(jnp.float32) for which in range(2)]
    if refs.new_scales is None:
        return new
    first = 2 * (group * refs.group + member)
    return [one * refs.new_scales[first + which] for which, one in enumerate(new)]


def _times_keys(refs: Refs, group: Array, member: int, queries: Array) -> Array:
    """Products of queries [n h] with all keys, float32 [n w]."""
    keys = refs.buffers[0][group & 1, member]
    if refs.new_scales is None:
        return _product(queries, keys, 1)
    scales: Array = refs.buffers[2][group & 1, member, :1]
    return _int8_product(queries, keys, 1) * scales


def _times_values(refs: Refs, group: Array, member: int, weights: Array) -> Array:
    """Sums of all values with weights [n w], float32 [n h]."""
    values = refs.buffers[1][group & 1, member]
    if refs.new_scales is None:
        return _product(weights.astype(values.dtype), values, 0)
    return _int8_product(weights * refs.buffers[2][group & 1, member, 1:], values, 0)


def _product(left: Array, right: Array, axis: int) -> Array:
    """`left` [n k] by `right`, over that axis of `right`, in float32."""
    return lax.dot_general(
        left, right, (((1,), (axis,)), ((), ())), preferred_element_type=jnp.float32
    )


def _int8_product(left: Array, right: Array, axis: int) -> Array:
    """Floats [n k] by int8, with n a multiple of 8.

    `left` becomes two digits of 7 bits, stacked. So `right` goes through the matrix units once and
    unconverted; a conversion would take longer than the product.
    """
    left = left.astype(jnp.float32)
    rows = left.shape[0]
    largest = jnp.maximum(jnp.max(jnp.abs(left), axis=-1, keepdims=True), LEAST_SCALE)
    whole = left * ((_DIGIT * 127.0) / largest)
    high = jnp.round(whole * (1 / _DIGIT))
    low = jnp.round(whole - high * _DIGIT)
    digits = jnp.concatenate([high, low], axis=0).astype(jnp.int32).astype(jnp.int8)
    product = lax.dot_general(
        digits, right, (((1,), (axis,)), ((), ())), preferred_element_type=jnp.int32
    ).astype(jnp.float32)
    return (product[:rows] * _DIGIT + product[rows:]) * (largest * (1 / (_DIGIT * 127.0)))
