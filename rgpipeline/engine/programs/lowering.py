"""A worker's programs with shapes in place of arrays: nothing is loaded, and nothing runs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from rgpipeline.engine.grammar_protocol import mask_words
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.programs.device_programs import (
    PARAMS,
    STATE,
    Devices,
    Specs,
    by_slot,
    everywhere,
)
from rgpipeline.engine.programs.program_shapes import pack_tokens
from rgpipeline.engine.slot_fields import SamplingFeatures, rows_of
from rgpipeline.model.config import ATTENTION, GriffinConfig
from rgpipeline.model.param_tree import ParamPath, flatten
from rgpipeline.model.params import param_shapes
from rgpipeline.model.platforms import kernels_for
from rgpipeline.model.quantize import is_quantized
from rgpipeline.model.sharding import shardings
from rgpipeline.records import ResolvedSettings
from rgpipeline.spec import Sampling

# For a job without sampling settings: temperature 1, nothing else.
PLAIN = SamplingFeatures.of(Sampling())

# The custom call of a Pallas kernel for GPUs. jax doesn't promise that later versions know it.
_GPU_KERNEL = "__gpu$xla.gpu.triton"

Tree = Any


@dataclass(frozen=True, slots=True)
class Program:
    """One jitted program of the engine, and the shapes it is called with."""

    jitted: Any
    arguments: tuple[Any, ...]

    def lower(self) -> jax.stages.Lowered:
        """Lowers it for the devices in its arguments' shardings."""
        lowered: jax.stages.Lowered = self.jitted.lower(*self.arguments)
        return lowered

    def export(self, platform: str) -> jax.export.Exported:
        """Lowers it for a platform of which no device is needed; the result is for reading only."""
        allowed = jax.export.DisabledSafetyCheck.custom_call(_GPU_KERNEL)
        exporting = jax.export.export(self.jitted, platforms=[platform], disabled_checks=[allowed])
        return exporting(*self.arguments)


@dataclass(frozen=True, slots=True)
class WorkerPrograms:
    """The programs that a worker runs, and the arrays it holds between calls."""

    programs: Mapping[str, Program]  # decode, prefill, insert, assign, forward, draw
    params: Tree  # shapes
    state: Tree  # shapes
    buffer: Tree  # shapes
    masks: Tree  # shapes of what `draw` gets from the host
    prefill_tokens: int  # tokens of one prefill call
    decode_flops: int  # of one step's matrix products
    prefill_flops: int  # of one call
    decode_int8_flops: int  # those of them in int8
    prefill_int8_flops: int


def worker_programs(
    config: GriffinConfig,
    settings: ResolvedSettings,
    mesh: Mesh | None,
    *,
    platform: str | None = None,
    features: SamplingFeatures = PLAIN,
) -> WorkerPrograms:
    """The programs of a worker with these settings.

    Args:
      config: the model.
      settings: as `resolve_settings` gives them.
      mesh: the devices that they are compiled for; None for one device of the platform.
      platform: `tpu`, `cuda` or `cpu`; default: that of the mesh.
      features: what the sampler can do.

    Raises:
      UserError: settings that this version can't honour.
    """
    devices = Devices.of(mesh)
    platform = platform or devices.platform
    engine = GriffinEngine(
        config,
        None,
        settings,
        pack_tokens=pack_tokens(settings, platform, devices.chips.data),
        kernels=kernels_for(platform),
        mesh=mesh,
    )
    quantized = settings.quantize == "int8"
    params = placed(param_shapes(config, jnp.dtype(settings.dtype), quantized), mesh, PARAMS)
    state = placed(engine.shapes(features), mesh, STATE)
    buffer = placed(engine.buffer_shapes(), mesh, STATE)
    jitted = engine.programs.frequent(features)
    arguments = _arguments(engine, jitted, params, state, buffer, mesh)
    rows, length = engine.pack_shapes[0]
    int8 = int8_flops if quantized else lambda *_: 0
    return WorkerPrograms(
        programs={name: Program(jitted[name], arguments[name]) for name in jitted},
        params=params,
        state=state,
        buffer=buffer,
        masks=arguments["draw"][-1],
        prefill_tokens=rows * length,
        decode_flops=model_flops(config, settings.slots, settings.slots),
        prefill_flops=model_flops(config, rows * length, 0),
        decode_int8_flops=int8(config, settings.slots, settings.slots),
        prefill_int8_flops=int8(config, rows * length, 0),
    )


def model_flops(config: GriffinConfig, tokens: int, logits: int) -> int:
    """Multiplications and additions of the matrix products for tokens and rows of logits.

    Attention counts a whole window for each token; elementwise operations don't count.
    """
    kernels = _parameters(config, lambda path: True)
    keys = 2 * config.heads * config.head_dim * (config.window + 1)
    attention = config.block_types.count(ATTENTION) * keys
    return 2 * (tokens * (kernels + attention) + logits * config.vocab_size * config.width)


def int8_flops(config: GriffinConfig, tokens: int, logits: int) -> int:
    """The part of `model_flops` that a quantized model does in int8."""
    kernels = _parameters(config, is_quantized)
    return 2 * (tokens * kernels + logits * config.vocab_size * config.width)


def _parameters(config: GriffinConfig, counts: Callable[[ParamPath], bool]) -> int:
    """Number of values in the matrices that every token is multiplied by, without the head."""
    shapes = flatten(param_shapes(config, jnp.float32))
    return sum(
        math.prod(leaf.shape)
        for path, leaf in shapes.items()
        if path[-1] == "kernel" and path[0] != "lm_head" and counts(path)
    )


def placed(tree: Tree, mesh: Mesh | None, specs: Specs) -> Tree:
    """The shapes of a tree's arrays, with their shardings."""
    if mesh is None:
        return jax.tree.map(lambda leaf: _struct(leaf.shape, leaf.dtype), tree)
    where = shardings(mesh, specs(tree))
    return jax.tree.map(lambda leaf, one: _struct(leaf.shape, leaf.dtype, one), tree, where)


def decode_weights_bytes(params: Tree) -> int:
    """Bytes of the weights that a decode step reads whole, on one device.

    If the head is a matrix of its own, a step reads only a row of the embedding for each slot.
    """
    if "lm_head" not in params:
        return tree_bytes(params)
    return tree_bytes({name: part for name, part in params.items() if name != "embedder"})


def tree_bytes(tree: Tree) -> int:
    """Bytes on one device of all arrays of a tree, without padding."""
    leaves = jax.tree.leaves(tree)
    return sum(
        math.prod(
            leaf.sharding.shard_shape(leaf.shape) if leaf.sharding is not None else leaf.shape
        )
        * leaf.dtype.itemsize
        for leaf in leaves
    )


def _arguments(
    engine: GriffinEngine,
    jitted: Mapping[str, Any],
    params: Tree,
    state: Tree,
    buffer: Tree,
    mesh: Mesh | None,
) -> dict[str, tuple[Any, ...]]:
    rows, length = engine.pack_shapes[0]

    def slots(tree: Tree) -> Tree:
        return placed(tree, mesh, lambda tree: jax.tree.map(by_slot, tree))

    flags = slots(_struct((rows,), jnp.bool_))
    counts = slots(_struct((rows,), jnp.int32))
    tokens = slots(_struct((rows, length), jnp.int32))
    slot = placed(_struct((), jnp.int32), mesh, everywhere)
    steps = () if engine.settings.steps_per_dispatch else (slot,)
    chosen, fields = rows_of(engine.decode_rows, {})
    model, held = state.model, state.slots
    forward = (params, model, held.token, held.active)
    made = jax.eval_shape(jitted["forward"], *forward)[1]
    made = placed(_struct(made.shape, made.dtype), mesh, engine.programs.made_specs)
    masks = slots(_struct((engine.decode_rows, 4 * mask_words(engine.vocab_size)), jnp.uint8))
    return {
        "decode": (params, state, *steps),
        "prefill": (params, buffer, tokens, counts, counts, flags),
        "insert": (state, slot, buffer, slot),
        "assign": (state, slots(chosen), slots(fields)),
        "forward": forward,
        "draw": (params, state, made, masks),
    }


def _struct(
    shape: tuple[int, ...], dtype: Any, sharding: NamedSharding | None = None
) -> jax.ShapeDtypeStruct:
    struct: jax.ShapeDtypeStruct = jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)  # type: ignore[no-untyped-call]
    return struct
