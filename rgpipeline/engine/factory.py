"""Opens an engine for a job: weights, settings, programs."""

import weakref
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rgpipeline.engine.activity import Activity
from rgpipeline.engine.checks import NumberCheck, without_numbers
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.prefill.text_queue import TextQueue
from rgpipeline.engine.programs.lowering import tree_bytes
from rgpipeline.engine.programs.program_shapes import pack_tokens
from rgpipeline.engine.sizing import (
    PREFIX_BYTES,
    Memory,
    device_memory,
    needs_of,
    require_model,
    require_room,
    resolve_settings,
)
from rgpipeline.engine.step_tuner import StepTuner
from rgpipeline.engine.text_requests import TextRequest
from rgpipeline.errors import UserError, WeightsError
from rgpipeline.model.collectives import ALONE, Chips
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.fingerprint import Fingerprint
from rgpipeline.model.mesh_shapes import check_model
from rgpipeline.model.param_tree import flatten
from rgpipeline.model.platforms import kernels_for, skip_absent_tpu
from rgpipeline.model.sharding import check_slots, chips_for, device_put_for, mesh_of
from rgpipeline.model.weights import loading
from rgpipeline.model.weights.checkpoint import read_config
from rgpipeline.model.weights.model_source import ModelSource
from rgpipeline.records import ResolvedSettings
from rgpipeline.spec import EngineSpec, MeshSpec

_SHOWN = 3  # parameters in a message


@dataclass(frozen=True, slots=True)
class OpenedEngine:
    """A loop ready for requests, and the settings it has."""

    loop: Loop[Any, Any]
    settings: ResolvedSettings


def open_engine(
    source: ModelSource,
    engine: EngineSpec,
    resolved: ResolvedSettings | None = None,
    mesh: MeshSpec | None = None,
    cache: Path | None = None,
    devices: int | None = None,
    activity: Activity | None = None,
) -> OpenedEngine:
    """Loads the weights and makes a loop over them.

    Args:
      source: which weights, in which dtype.
      engine: slots, chunk and steps, or `auto`.
      resolved: the settings that an earlier worker of the same job recorded; used as they are.
      mesh: how this process's chips are divided; None for one chip.
      cache: a local folder for copies of remote weights; see `loading.load`.
      devices: accelerators that this process was given; jax must see them all.
      activity: gets reports of long operations, now and whenever a program is compiled.

    Raises:
      WeightsError: the checkpoint can't be used.
      UserError: an option that this version can't honour, chips that the model can't be divided
        among, or too little memory for the model and the slots.
    """
    activity = activity or Activity()
    skip_absent_tpu()
    report_compilations(activity)
    activity.opening(source.spec.weights)
    chips = _chips(mesh, devices)
    if chips.model > 1:
        check_model(read_config(source, cache, compare=False), chips.model, "workers.mesh")
    grid = mesh_of(jax.local_devices(), chips)
    memory = device_memory(chips.count)
    fingerprint = Fingerprint()
    config, params, dtype = loading.load(
        source if resolved is None else source.in_dtype(resolved.dtype),
        device_put=_reporting(device_put_for(grid), activity, fingerprint),
        cache=cache,
        check=partial(_begin_reading, activity, memory, chips),
    )
    activity.opened()
    settings = resolved or resolve_settings(
        *(config, engine, memory, tree_bytes(params)),
        dtype="float32" if dtype == np.float32 else "bfloat16",
        quantize=source.spec.quantize,
        platform=jax.default_backend(),
        devices=chips.count,
    )
    known = fingerprint.digest(config)
    loop = _make_loop(config, params, settings, source.spec.weights, known, chips, grid, memory)
    return OpenedEngine(loop, settings)


def _make_loop(
    config: GriffinConfig,
    params: Any,
    settings: ResolvedSettings,
    weights: str,
    fingerprint: str,
    chips: Chips,
    grid: Mesh,
    memory: Memory,
) -> Loop[Any, Any]:
    """Checks that the slots fit; makes the engine and its loop. Raises UserError."""
    check_slots(settings.slots, chips, "engine.slots")
    needs = needs_of(config, tree_bytes(params), settings.dtype, settings.quantize)
    require_room(memory, needs, settings.slots, chips.count)
    platform = jax.default_backend()
    engine = GriffinEngine(
        *(config, params, settings),
        pack_tokens=pack_tokens(settings, platform, chips.data),
        kernels=kernels_for(platform),
        mesh=grid,
        fingerprint=fingerprint,
    )
    loop = Loop(
        engine,
        prefix_states=min(settings.slots, PREFIX_BYTES // needs.slot),
        tuner=StepTuner(settings.steps_per_dispatch),
    )
    loop.numbers = number_check(engine, params, weights)
    return loop


def use_compilation_cache(folder: Path) -> None:
    """Keeps compiled programs in `folder`, so that the next start doesn't compile them again.

    Even the smallest: a start needs thirty of them.
    """
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    for name, value in settings.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]


def report_compilations(activity: Activity) -> None:
    """Tells `activity` about jax's compilations for as long as the object is in use."""
    reference = weakref.ref(activity)

    def listener(event: str, duration_secs: float, **kwargs: str | int) -> None:
        target = reference()
        if target is not None:
            target.record_jax_event(event, duration_secs, **kwargs)

    jax.monitoring.register_event_duration_secs_listener(listener)
    remove = weakref.finalize(activity, jax.monitoring.unregister_event_duration_listener, listener)
    remove.atexit = False


def number_check(engine: GriffinEngine, params: Any, weights: str) -> NumberCheck:
    """The check for an engine over these parameters; `weights` is what messages call them."""
    return NumberCheck(partial(require_numbers, engine, params, weights), weights)


def require_numbers(engine: GriffinEngine, params: Any, weights: str) -> None:
    """Scores the shortest text, BOS alone. Raises WeightsError if its logits are not finite."""
    text = np.full((2,), engine.config.bos_id, np.int32)
    texts = TextQueue(engine, 0)
    texts.add(TextRequest(None, text))
    results = []
    while not texts.idle:
        results += texts.step()
    if any(one.values is not None and without_numbers(one.values) for one in results):
        raise WeightsError(
            f"{weights}: the weights give no numbers: for any prompt, logits are NaN or "
            f"infinite{_not_finite(params)}; copy or save the model again, or try model.dtype: "
            f"float32"
        )


def _not_finite(params: Any) -> str:
    """The parameters that contain NaN or infinity, for the message."""
    found = [
        ".".join(path)
        for path, leaf in flatten(params).items()
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not bool(jnp.isfinite(leaf).all())
    ]
    if not found:
        return ""
    more = ", …" if len(found) > _SHOWN else ""
    return f" (NaN or infinity is in {', '.join(found[:_SHOWN])}{more})"


def _begin_reading(activity: Activity, memory: Memory, chips: Chips, total: int) -> None:
    require_model(memory, total // chips.model)
    activity.reading(total)


def _reporting(
    device_put: loading.DevicePut | None, activity: Activity, fingerprint: Fingerprint
) -> loading.DevicePut:
    """`device_put`, which also reports every parameter that it has put on the device."""

    def report(path: tuple[str, ...], value: Any) -> jax.Array:
        array: jax.Array = jax.device_put(value) if device_put is None else device_put(path, value)
        activity.add_read(value.nbytes)
        fingerprint.add(path, value)
        return array

    return report


def _chips(mesh: MeshSpec | None, given: int | None) -> Chips:
    """How this process's chips are divided. Raises UserError."""
    seen = jax.local_devices()
    if given is not None and len(seen) < given:
        raise UserError(
            f"this worker was given {given} accelerators, and jax sees {len(seen)} "
            f"({seen[0].platform}); is another process at them, or is jax's part for them not "
            f"installed (pip install 'rgpipeline[tpu]' or 'rgpipeline[cuda]')?"
        )
    if mesh is None:
        return ALONE
    return chips_for(mesh.data, mesh.model, len(seen), "workers.mesh")
