"""One token's attention over the ring of each sequence, and the ring's update, in one pass.

XLA reads keys and values at half the memory's rate, because nothing else goes on meanwhile. Here
they come into VMEM while the sequences before them are worked on; parts of a ring that hold
nothing are not read; and of a ring only the tile with the new token is written back.

    step       0        1        2            the grid: one step more than there are groups
    fetches    group 0  group 1  -            into one half of the buffers
    computes   -        group 0  group 1      from the other
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_dtypes
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.typing import DTypeLike

from rgpipeline.model.kernels import Kernels, shape_of
from rgpipeline.model.state import AttentionState, Position

_MASKED = -2.3819763e38  # as in `attention`
_GROUP = 2  # sequences a step: one's products fill the other's waits
_CHUNK = 512  # slots of a ring that are read together
_TILE_BYTES = 32  # of a column of a memory tile, the least that can be written: 16 of bfloat16
_VMEM_BYTES = 32 << 20

Decode = Callable[..., tuple[Array, AttentionState]]


def chosen(kernels: Kernels, state: AttentionState) -> Decode | None:
    """A counterpart of `attention.decode` for these rings; None where the TPU's tiles forbid it."""
    batch, window, size = state.keys.shape
    fits = batch % _GROUP == 0 and window % _CHUNK == 0 and size % 128 == 0
    if kernels == "plain" or not fits or state.keys.dtype != jnp.bfloat16:
        return None
    return partial(decode, interpret=kernels == "interpret")


def decode(
    queries: Array,
    keys: Array,
    values: Array,
    state: AttentionState,
    position: Position,
    active: Array,
    *,
    interpret: Any = False,
) -> tuple[Array, AttentionState]:
    """The same as `attention.decode`; `interpret` as in `pallas_call`.

    Donate the state, and the rings are updated in place. What rows that are not active gather is
    meaningless.
    """
    batch, _, heads, size = queries.shape
    in_hbm = pl.BlockSpec(memory_space=pl.ANY)
    mixed, *rings = pl.pallas_call(
        _kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(batch // _GROUP + 1,),
            in_specs=[_computed(heads, size), _computed(2, size), in_hbm, in_hbm],
            out_specs=[_computed(heads, size), in_hbm, in_hbm],
            scratch_shapes=_scratch(state.keys),
        ),
        out_shape=[
            shape_of((batch, heads, size), jnp.float32),
            *(shape_of(ring.shape, ring.dtype) for ring in state),
        ],
        input_output_aliases={4: 1, 5: 2},  # operands count from the prefetched scalars on
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_VMEM_BYTES),
        interpret=interpret,
        name="decode_attention",
    )(
        position.ring,
        jnp.where(active, position.filled, -1),
        queries[:, 0],
        jnp.concatenate([keys, values], axis=1),
        *state,
    )
    return mixed[:, None], AttentionState(*rings)


def _computed(*shape: int) -> pl.BlockSpec:
    """The block of the group that a step computes: the one before the one it fetches."""
    return pl.BlockSpec(
        (_GROUP, *shape), lambda step, *_: (jnp.maximum(step - 1, 0),) + (0,) * len(shape)
    )


class _Refs(NamedTuple):
    """What the kernel works with; in VMEM, the first axis is the half that is in turn."""

    ring: Any  # int32 [b], in SMEM
    count: Any  # int32 [b], in SMEM: slots that hold a token, or -1 where a row is not active
    queries: Any  # [g n h]
    new: Any  # [g 2 h]
    mixed: Any  # [g n h]
    rings: tuple[Any, Any]  # [b w h], in HBM
    buffers: tuple[Any, Any]  # [2 g w h], the rings of two groups
    tiles: tuple[Any, Any]  # [2 g t h], what is written back
    reads: Any  # semaphores [2 2], of the keys and of the values
    writes: Any  # semaphores [2 2]


def _scratch(ring: Array) -> list[Any]:
    """The last four fields of `_Refs`, pairs as two."""
    _, window, size = ring.shape
    buffer = pltpu.VMEM((2, _GROUP, window, size), ring.dtype)
    tile = pltpu.VMEM((2, _GROUP, _TILE_BYTES // ring.dtype.itemsize, size), ring.dtype)
    semaphores = pltpu.SemaphoreType.DMA((2, 2))
    return [buffer, buffer, tile, tile, semaphores, semaphores]


def _kernel(ring: Any, count: Any, queries: Any, new: Any, *refs: Any) -> None:
    # The rings are the same memory as inputs and as outputs; the outputs can be written.
    _, _, mixed, *rings = refs[:5]
    keys, values, key_tiles, value_tiles, *rest = refs[5:]
    pairs = (rings[0], rings[1]), (keys, values), (key_tiles, value_tiles)
    these = _Refs(ring, count, queries, new, mixed, *pairs, *rest)
    step, last = pl.program_id(0), pl.num_programs(0) - 1

    @pl.when(step < last)
    def fetch() -> None:
        _fetch(these, step)

    @pl.when(step > 0)
    def compute() -> None:
        _finish_fetch(these, step - 1)
        pl.when(step > 2)(partial(_finish_write, these, step - 3))
        for member in range(_GROUP):
            _write(these, step - 1, member)
        for member in range(_GROUP):
            _attend(these, step - 1, member)

    @pl.when(step == last)
    def finish() -> None:
        pl.when(step > 1)(partial(_finish_write, these, step - 2))
        _finish_write(these, step - 1)


def _fetch(refs: _Refs, group: Array) -> None:
    """Starts to bring into VMEM what a group's rings hold."""
    for held, copies in _reads(refs, group):

        @pl.when(held)
        def start(copies: list[Any] = copies) -> None:
            for copy in copies:
                copy.start()


def _finish_fetch(refs: _Refs, group: Array) -> None:
    for held, copies in _reads(refs, group):

        @pl.when(held)
        def wait(copies: list[Any] = copies) -> None:
            for copy in copies:
                copy.wait()


def _reads(refs: _Refs, group: Array) -> Iterator[tuple[Array, list[Any]]]:
    """Each chunk of a group's rings: whether to read it, and how.

    What is not read keeps what was there, of another row perhaps. Its weight is 0, so it must be
    a number: hence the first groups read all, and `written` lets nothing else in.
    """
    half = group & 1
    for member, first in product(range(_GROUP), range(0, refs.buffers[0].shape[2], _CHUNK)):
        row, chunk = group * _GROUP + member, pl.ds(first, _CHUNK)
        copies = [
            pltpu.make_async_copy(
                refs.rings[which].at[row, chunk],
                refs.buffers[which].at[half, member, chunk],
                refs.reads.at[half, which],
            )
            for which in range(2)
        ]
        yield (refs.count[row] > first) | (group < 2), copies


def _write(refs: _Refs, group: Array, member: int) -> None:
    """Starts to write the tile in which the row's new token stands."""
    half = group & 1
    row = group * _GROUP + member
    rows = refs.tiles[0].shape[2]
    first = pl.multiple_of(refs.ring[row] & -rows, rows)
    here = lax.broadcasted_iota(jnp.int32, (rows, 1), 0) == (refs.ring[row] & (rows - 1))
    for which in range(2):
        tile = refs.tiles[which].at[half, member]
        old = refs.buffers[which][half, member, pl.ds(first, rows)].astype(jnp.float32)
        new = refs.new[member, which][None].astype(jnp.float32)
        tile[...] = jnp.where(here, written(new, tile.dtype), old).astype(tile.dtype)

    @pl.when(refs.count[row] >= 0)
    def start() -> None:
        for copy in _writes(refs, group, member):
            copy.start()


def written(new: Array, dtype: DTypeLike) -> Array:
    """What goes into a ring: always a number, so that no row can spoil another (see `_reads`)."""
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    return jnp.where(new != new, 0.0, jnp.clip(new, -largest, largest))


def _finish_write(refs: _Refs, group: Array) -> None:
    for member in range(_GROUP):

        @pl.when(refs.count[group * _GROUP + member] >= 0)
        def wait(member: int = member) -> None:
            for copy in _writes(refs, group, member):
                copy.wait()


def _writes(refs: _Refs, group: Array, member: int) -> list[Any]:
    half = group & 1
    row = group * _GROUP + member
    rows = refs.tiles[0].shape[2]
    first = pl.multiple_of(refs.ring[row] & -rows, rows)
    return [
        pltpu.make_async_copy(
            refs.tiles[which].at[half, member],
            refs.rings[which].at[row, pl.ds(first, rows)],
            refs.writes.at[half, which],
        )
        for which in range(2)
    ]


def _attend(refs: _Refs, group: Array, member: int) -> None:
    """Softmax attention of one sequence: to its ring as it was, and to the new token."""
    half = group & 1
    queries = refs.queries[member]
    scale = queries.shape[-1] ** -0.5
    keys, values = (buffer[half, member] for buffer in refs.buffers)
    new_key, new_value = (refs.new[member, which][None].astype(jnp.float32) for which in range(2))
    slot = lax.broadcasted_iota(jnp.int32, (queries.shape[0], keys.shape[0]), 1)
    known = slot < refs.count[group * _GROUP + member]
    scores = jnp.where(known, _product(queries, keys, 1) * scale, _MASKED)
    own = jnp.sum(queries.astype(jnp.float32) * new_key, axis=-1, keepdims=True) * scale
    highest = jnp.maximum(jnp.max(scores, axis=-1, keepdims=True), own)
    weights, own_weight = jnp.exp(scores - highest), jnp.exp(own - highest)
    total = jnp.sum(weights, axis=-1, keepdims=True) + own_weight
    mixed = _product(weights.astype(values.dtype), values, 0)
    own_mixed = own_weight.astype(values.dtype).astype(jnp.float32) * new_value
    refs.mixed[member] = (mixed + own_mixed) / total


def _product(left: Array, right: Array, axis: int) -> Array:
    """`left` [n k] by `right`, over that axis of `right`, in float32."""
    return lax.dot_general(
        left, right, (((1,), (axis,)), ((), ())), preferred_element_type=jnp.float32
    )
