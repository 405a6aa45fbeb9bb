"""Loading a model: tensors one by one, straight to their places."""

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
from rgpipeline.model.layers.array_types import HostArray, ParamPath
from rgpipeline.model.params import Params, nest, stored_dtype
from rgpipeline.model.weights.checkpoint import open_checkpoint
from rgpipeline.model.weights.recipes import Recipe, TensorReader
from rgpipeline.storage.filesystems import StorageOptions

Dtype = Literal["auto", "float32", "bfloat16"]
Place = Callable[[ParamPath, HostArray], jax.Array]
Parts = list[HostArray]

# Recipes under way at once: they hide a remote store's latency. Beyond the first they hold no
# more than so many bytes together.
_AHEAD, _AHEAD_BYTES = 4, 128 << 20


def load(
    url: str,
    dtype: Dtype = "auto",
    storage_options: StorageOptions | None = None,
    place: Place | None = None,
    cache: Path | None = None,
    quantized: bool = False,
    check: Callable[[int], None] = lambda _: None,
) -> tuple[GriffinConfig, Params, np.dtype[Any]]:
    """Reads a model from a Hugging Face folder or an official Flax (orbax) folder.

    Tensors are read one at a time, the largest first, converted, and given to `place` at once, so
    that the host never holds the model twice.

    Args:
        url: A path, any fsspec URL, or `demo` for the model inside this package.
        dtype: The model's dtype. `auto` is float32 on CPUs and the checkpoint's own elsewhere
            (float16 becomes bfloat16, in which the model was trained).
        storage_options: fsspec's options by protocol, secrets already in place.
        place: Puts one parameter, given its path in the tree and its host array, on the device;
            default: the default device.
        cache: A local folder for copies of remote weights, shared by all processes of a machine.
            Without it safetensors are read from the store straight into memory, and official
            checkpoints are copied to `official_folder.CACHE`, for orbax to read.
        quantized: Matrices become int8 (see `quantize`), each as it is read.
        check: Is told, before anything is read, how many bytes the parameters take; may raise.

    Returns:
        The configuration, the parameters (see `params.py`) and the dtype that was settled on.

    Raises:
        WeightsError: Not a Griffin checkpoint, or tensors are missing, unexpected, misshapen or
            truncated; all are named at once.
        StoreError: A remote store failed again and again.
    """
    config, reader, needed, _ = open_checkpoint(url, storage_options, cache)
    settled = _settle(dtype, reader)
    check(sum(_bytes_held(recipe, settled, quantized) for recipe in needed))
    put = place or _to_default_device
    placed: dict[ParamPath, Any] = {}
    for recipe, parts in _read_ahead(reader, sorted(needed, key=_values, reverse=True)):
        built = _built(recipe, parts, settled, quantized)
        # A device still copying keeps the host's array: one at a time.
        placed |= {path: put(path, built.pop(path)).block_until_ready() for path in list(built)}
    _give_back()
    return config, nest(placed), settled


def _read_ahead(reader: TensorReader, recipes: Iterable[Recipe]) -> Iterator[tuple[Recipe, Parts]]:
    """Each recipe with its tensors, in order; the next few are being read meanwhile."""

    def read(recipe: Recipe) -> Parts:
        return [reader.read(name) for name, _ in recipe.sources]

    with ThreadPoolExecutor(_AHEAD) as pool:
        coming: deque[tuple[Recipe, int, Future[Parts]]] = deque()
        for recipe in recipes:
            size = sum(_bytes(reader, name) for name, _ in recipe.sources)
            while coming and (
                len(coming) == _AHEAD or size + sum(held for _, held, _ in coming) > _AHEAD_BYTES
            ):
                yield _next(coming)
            coming.append((recipe, size, pool.submit(read, recipe)))
        while coming:
            yield _next(coming)


def _next(coming: deque[tuple[Recipe, int, Future[Parts]]]) -> tuple[Recipe, Parts]:
    recipe, _, reading = coming.popleft()
    return recipe, reading.result()


def _built(
    recipe: Recipe, parts: Parts, dtype: np.dtype[Any], quantized: bool
) -> dict[ParamPath, HostArray]:
    """The parameter, with its scales if it is quantized, by their places.

    `parts` are given up, so that they are not kept while the next are read.
    """
    path, value = recipe.path, recipe.build(parts)
    built: dict[ParamPath, HostArray]
    if quantized and quantize.is_quantized(path):
        numbers, scales = quantize.quantized_weights(value)
        built = {path: numbers, quantize.scale_path(path): scales}
    else:
        built = {path: np.ascontiguousarray(value, dtype=stored_dtype(path, dtype))}
    parts.clear()
    return built


def _give_back() -> None:
    """Returns to the system what the buffers of a download left free in the process (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _settle(dtype: Dtype, reader: TensorReader) -> np.dtype[Any]:
    if dtype != "auto":
        return np.dtype(jnp.dtype(dtype))
    stored: Counter[np.dtype[Any]] = Counter()
    for name, tensor in reader.tensors.items():
        stored[tensor.dtype] += _bytes(reader, name)
    most = stored.most_common(1)[0][0]
    exact = jax.default_backend() == "cpu" or most in (np.float32, np.float64)
    return np.dtype(np.float32 if exact else ml_dtypes.bfloat16)


def _bytes(reader: TensorReader, name: str) -> int:
    tensor = reader.tensors[name]
    return math.prod(tensor.shape) * tensor.dtype.itemsize


def _values(recipe: Recipe) -> int:
    return sum(math.prod(shape) for _, shape in recipe.sources)


def _bytes_held(recipe: Recipe, dtype: np.dtype[Any], quantized: bool) -> int:
    """Of the parameter in memory, without the scales of one that is quantized."""
    if quantized and quantize.is_quantized(recipe.path):
        return _values(recipe)
    return _values(recipe) * jnp.dtype(stored_dtype(recipe.path, dtype)).itemsize


def _to_default_device(_: ParamPath, value: HostArray) -> jax.Array:
    placed: jax.Array = jax.device_put(value)
    return placed
