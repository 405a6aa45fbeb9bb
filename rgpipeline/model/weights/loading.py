"""Loading a model: tensors one by one, from a checkpoint to the device.

    reader.read → recipe.build → cast, or quantize → put

An adapter is merged in the reader (see `lora.py`), which returns each tensor with its update added.
All that follows takes any float dtype, and holds a few tensors at a time.
"""

import ctypes
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from rgpipeline.model import quantize
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.host_arrays import aligned_copy
from rgpipeline.model.param_tree import HostArray, ParamPath, Params, nest
from rgpipeline.model.params import stored_dtype
from rgpipeline.model.weights.checkpoint import open_checkpoint
from rgpipeline.model.weights.merged_reader import MergedReader
from rgpipeline.model.weights.model_source import ModelSource
from rgpipeline.model.weights.recipes import Recipe, TensorReader

Dtype = Literal["auto", "float32", "bfloat16"]
DevicePut = Callable[[ParamPath, HostArray], jax.Array]

# Recipes whose tensors are read at once, to hide a remote store's latency; beyond the first they
# hold at most so many bytes together.
_READ_AHEAD, _READ_AHEAD_BYTES = 4, 128 << 20


def load(
    source: ModelSource,
    *,
    device_put: DevicePut | None = None,
    cache: Path | None = None,
    check: Callable[[int], None] = lambda _: None,
) -> tuple[GriffinConfig, Params, np.dtype[Any]]:
    """Reads a model from a Hugging Face folder or an official Flax (orbax) folder.

    Tensors are read one at a time, the largest first, converted, and passed to `device_put` at
    once, so that the host never holds the model twice. An adapter is merged in float32 before
    anything is cast.

    Args:
        source: The model. Of its section, `dtype` is the model's dtype: `auto` is float32 on CPUs
            and the checkpoint's own elsewhere (float16 becomes bfloat16, in which the model was
            trained). With `quantize: int8`, matrices become int8 (see `quantize`), each as it is
            read.
        device_put: Puts one parameter, given its path in the tree and its host array, on the
            device; default: the default device.
        cache: A local folder for copies of remote weights, shared by all processes of a machine.
            Without it safetensors are read from the store straight into memory, and official
            checkpoints are copied to `official_folder.CACHE`, for orbax to read.
        check: Called before anything is read, with the bytes that the parameters take; may raise.

    Returns:
        The configuration, the parameters (see `params.py`) and the model's dtype.

    Raises:
        WeightsError: Not a Griffin checkpoint, or tensors are missing, unexpected, truncated or of
            the wrong shape. The message names all of them.
        StoreError: A remote store failed again and again.
    """
    config, reader, recipes, _ = open_checkpoint(source, cache)
    quantized = source.spec.quantize == "int8"
    resolved = _resolve_dtype(source.spec.dtype, reader)
    if isinstance(reader, MergedReader) and not quantized:
        reader.dtype = resolved
    check(sum(_param_bytes(recipe, resolved, quantized) for recipe in recipes))
    put = device_put or _to_default_device
    params: dict[ParamPath, Any] = {}
    for recipe, tensors in _read_ahead(reader, sorted(recipes, key=_size, reverse=True)):
        built = _build(recipe, tensors, resolved, quantized)
        # A device that still copies keeps the host's array: so one at a time.
        params |= {path: put(path, built.pop(path)).block_until_ready() for path in list(built)}
    _release_free_memory()
    return config, nest(params), resolved


def _read_ahead(
    reader: TensorReader, recipes: Iterable[Recipe]
) -> Iterator[tuple[Recipe, list[HostArray]]]:
    """Each recipe with its tensors, in order; the next few are being read meanwhile."""

    def read(recipe: Recipe) -> list[HostArray]:
        return [reader.read(name) for name, _ in recipe.sources]

    with ThreadPoolExecutor(_READ_AHEAD) as pool:
        queue: deque[tuple[Recipe, int, Future[list[HostArray]]]] = deque()
        for recipe in recipes:
            size = sum(_tensor_bytes(reader, name) for name, _ in recipe.sources)
            while queue and (
                len(queue) == _READ_AHEAD
                or size + sum(queued for _, queued, _ in queue) > _READ_AHEAD_BYTES
            ):
                yield _next(queue)
            queue.append((recipe, size, pool.submit(read, recipe)))
        while queue:
            yield _next(queue)


def _next(
    queue: deque[tuple[Recipe, int, Future[list[HostArray]]]],
) -> tuple[Recipe, list[HostArray]]:
    recipe, _, reading = queue.popleft()
    return recipe, reading.result()


def _build(
    recipe: Recipe, tensors: list[HostArray], dtype: np.dtype[Any], quantized: bool
) -> dict[ParamPath, HostArray]:
    """The parameter, with its scales if it is quantized, by path.

    Empties `tensors`, so that they are not kept while the next are read.
    """
    path, value = recipe.path, recipe.build(tensors)
    built: dict[ParamPath, HostArray]
    if quantized and quantize.is_quantized(path):
        numbers, scales = quantize.quantized_weights(value)
        built = {path: numbers, quantize.scale_path(path): scales}
    else:
        to_host = aligned_copy if jax.default_backend() == "cpu" else np.ascontiguousarray
        built = {path: to_host(value, stored_dtype(path, dtype))}
    tensors.clear()
    return built


def _release_free_memory() -> None:
    """Returns to the system the memory that a download's buffers left free (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resolve_dtype(dtype: Dtype, reader: TensorReader) -> np.dtype[Any]:
    if dtype != "auto":
        return np.dtype(jnp.dtype(dtype))
    stored: Counter[np.dtype[Any]] = Counter()
    for name, tensor in reader.tensors.items():
        stored[tensor.dtype] += _tensor_bytes(reader, name)
    most = stored.most_common(1)[0][0]
    exact = jax.default_backend() == "cpu" or most in (np.float32, np.float64)
    return np.dtype(np.float32 if exact else ml_dtypes.bfloat16)


def _tensor_bytes(reader: TensorReader, name: str) -> int:
    tensor = reader.tensors[name]
    return math.prod(tensor.shape) * tensor.dtype.itemsize


def _size(recipe: Recipe) -> int:
    return sum(math.prod(shape) for _, shape in recipe.sources)


def _param_bytes(recipe: Recipe, dtype: np.dtype[Any], quantized: bool) -> int:
    """Bytes of the parameter in memory, without the scales of a quantized one."""
    if quantized and quantize.is_quantized(recipe.path):
        return _size(recipe)
    return _size(recipe) * jnp.dtype(stored_dtype(recipe.path, dtype)).itemsize


def _to_default_device(_: ParamPath, value: HostArray) -> jax.Array:
    array: jax.Array = jax.device_put(value)
    return array
