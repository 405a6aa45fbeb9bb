"""Opens an engine for a job: weights, settings, programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import psutil

from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.settings import pack_tokens, settle, state_bytes
from rgpipeline.errors import UserError
from rgpipeline.model import checkpoint
from rgpipeline.model.kernels import for_platform
from rgpipeline.records import EngineSettings
from rgpipeline.spec import EngineSpec, MeshSpec, ModelSpec

# Memory for states of shared prompt prefixes, beside the slots.
_PREFIX_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class OpenedEngine:
    """A loop ready for requests, and what it was settled on."""

    loop: Loop[Any, Any]
    settings: EngineSettings


def open_engine(
    model: ModelSpec,
    engine: EngineSpec,
    storage_options: Mapping[str, Mapping[str, Any]],
    settled: EngineSettings | None = None,
    mesh: MeshSpec | None = None,
    cache: Path | None = None,
) -> OpenedEngine:
    """Loads the weights and makes a loop over them.

    Args:
      model: which weights, and how they are held.
      engine: slots, chunk and steps, or `auto`.
      storage_options: fsspec options by protocol, secrets filled in.
      settled: what an earlier worker of the same job settled on; taken as it is.
      mesh: how this process's chips are divided; one chip unless it says otherwise.
      cache: a local folder for copies of remote weights; see `checkpoint.load`.

    Raises:
      WeightsError: the checkpoint can't be used.
      UserError: an option this build can't honour.
    """
    if mesh is not None and (mesh.data, mesh.model) not in (("auto", 1), (1, 1)):
        raise UserError("workers.mesh: more than one chip is not supported by this version")
    if model.quantize != "none":
        raise UserError("model.quantize: int8 is not supported by this version; use none")
    dtype = model.dtype if settled is None else settled.dtype
    config, params, loaded = checkpoint.load(model.weights, dtype, storage_options, cache=cache)
    settings = settled or settle(
        config, engine, dtype=_named(loaded), quantize=model.quantize, free_bytes=free_bytes()
    )
    kernels = for_platform(jax.default_backend())
    built = GriffinEngine(
        config, params, settings, pack_tokens=pack_tokens(settings), kernels=kernels
    )
    states = min(settings.slots, _PREFIX_BYTES // state_bytes(config, settings.dtype))
    return OpenedEngine(Loop(built, prefix_states=states), settings)


def _named(dtype: np.dtype[Any]) -> Literal["float32", "bfloat16"]:
    return "float32" if dtype == np.float32 else "bfloat16"


def free_bytes() -> int:
    """Device memory not in use, in bytes; on the CPU, the host's available memory."""
    device = jax.local_devices()[0]
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats["bytes_in_use"])
    return int(psutil.virtual_memory().available)


def use_compilation_cache(folder: Path) -> None:
    """Keeps compiled programs in `folder`, so that the next start doesn't compile again."""
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.2,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    for name, value in settings.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]
