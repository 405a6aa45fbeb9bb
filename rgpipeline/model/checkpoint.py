"""Loading a model: its configuration, then its tensors one by one, straight to their places."""

import dataclasses
import importlib.resources
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from rgpipeline.errors import WeightsError
from rgpipeline.model import hf_config, hf_layout, official_layout
from rgpipeline.model.config import GriffinConfig, known_configs
from rgpipeline.model.official_reader import OfficialReader, is_official
from rgpipeline.model.params import Params, nest, stored_dtype
from rgpipeline.model.recipes import HostArray, Path, Recipe
from rgpipeline.model.remote import Folder, StorageOptions
from rgpipeline.model.safetensors_reader import SafetensorsReader
from rgpipeline.model.stored import TensorReader

Dtype = Literal["auto", "float32", "bfloat16"]
Place = Callable[[Path, HostArray], jax.Array]

# Recipes under way at once: they hide a remote store's latency, and with the largest tensors first
# they are many only when little of the model is in memory yet.
_AHEAD = 4

# An official checkpoint has no configuration file of its own; these are the places, relative to
# it, where one may have been put.
_CONFIG_FILES = ("config.json", "../config.json", "../hf/config.json")


class Checkpoint(NamedTuple):
    """A checkpoint opened, checked, and not yet read."""

    config: GriffinConfig
    reader: TensorReader
    recipes: tuple[Recipe, ...]


def load(
    url: str,
    dtype: Dtype = "auto",
    storage_options: StorageOptions | None = None,
    place: Place | None = None,
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

    Returns:
        The configuration, the parameters (see `params.py`) and the dtype that was settled on.

    Raises:
        WeightsError: Not a Griffin checkpoint, or tensors are missing, unexpected, misshapen or
            truncated; all are named at once.
        StoreError: A remote store failed again and again.
    """
    config, reader, recipes = open_checkpoint(url, storage_options)
    settled = _settle(dtype, reader)
    put = place or _to_default_device
    placed: dict[Path, Any] = {}
    for recipe, parts in _read_ahead(reader, sorted(recipes, key=_size, reverse=True)):
        wanted = stored_dtype(recipe.path, settled)
        value = np.ascontiguousarray(recipe.build(parts), dtype=wanted)
        placed[recipe.path] = put(recipe.path, value)
    return config, nest(placed), settled


def read_config(url: str, storage_options: StorageOptions | None = None) -> GriffinConfig:
    """The configuration alone.

    Raises:
        WeightsError: There is none, or it is not a Griffin's.
    """
    folder = _folder(url, storage_options)
    if is_official(folder) and "config.json" not in folder.names():
        return _official(folder).config
    return _hf_config(folder)


def open_checkpoint(url: str, storage_options: StorageOptions | None = None) -> Checkpoint:
    """Opens a checkpoint and compares all that it holds with what the model needs.

    Raises:
        WeightsError: See `load`.
    """
    folder = _folder(url, storage_options)
    checkpoint = _official(folder) if is_official(folder) else _hugging_face(folder)
    faults = _faults(checkpoint)
    if faults:
        raise WeightsError("\n  ".join([f"{folder.url}: not this model's weights:", *faults]))
    return checkpoint


def _read_ahead(
    reader: TensorReader, recipes: Iterable[Recipe]
) -> Iterator[tuple[Recipe, list[HostArray]]]:
    """Each recipe with its tensors, in order; the next few are being read meanwhile."""

    def read(recipe: Recipe) -> tuple[Recipe, list[HostArray]]:
        return recipe, [reader.read(name) for name, _ in recipe.sources]

    with ThreadPoolExecutor(_AHEAD) as pool:
        coming: deque[Future[tuple[Recipe, list[HostArray]]]] = deque()
        for recipe in recipes:
            coming.append(pool.submit(read, recipe))
            if len(coming) == _AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _folder(url: str, storage_options: StorageOptions | None) -> Folder:
    if url == "demo":
        url = str(importlib.resources.files("rgpipeline") / "demo")
    return Folder(url, storage_options)


def _hugging_face(folder: Folder) -> Checkpoint:
    config = _hf_config(folder)
    return Checkpoint(config, SafetensorsReader(folder), tuple(hf_layout.recipes(config)))


def _hf_config(folder: Folder) -> GriffinConfig:
    if "config.json" not in folder.names():
        raise WeightsError(
            f"{folder.url}: neither a Hugging Face folder (no config.json) nor an official Flax "
            f"checkpoint (no _METADATA)"
        )
    return hf_config.parse(folder.read_json("config.json"), f"{folder.url}/config.json")


def _official(folder: Folder) -> Checkpoint:
    reader = OfficialReader(folder)
    shapes = {name: tensor.shape for name, tensor in reader.tensors.items()}
    config = _completed(folder, official_layout.inferred_config(shapes, folder.url))
    return Checkpoint(config, reader, tuple(official_layout.recipes(config)))


def _completed(folder: Folder, inferred: GriffinConfig) -> GriffinConfig:
    """Adds what shapes do not tell, from a file beside the tensors or a model of the same sizes.

    Guessing instead would give plausible nonsense: with another window or soft cap the model
    still writes text.
    """
    for name in filter(folder.has, _CONFIG_FILES):
        config = hf_config.parse(folder.read_json(name), f"{folder.url}/{name}")
        differing = official_layout.differing_sizes(config, inferred)
        if differing:
            raise WeightsError(
                f"{folder.url}/{name} does not fit the tensors: it differs in "
                + ", ".join(
                    f"{field} ({getattr(config, field)!r}, the tensors say "
                    f"{getattr(inferred, field)!r})"
                    for field in differing
                )
            )
        return config
    for known in known_configs():
        if set(official_layout.differing_sizes(known, inferred)) <= {"vocab_size"}:
            return dataclasses.replace(known, vocab_size=inferred.vocab_size)
    raise WeightsError(
        f"{folder.url}: an official checkpoint does not record its attention window, logits soft "
        f"cap and embedding scale, and its sizes are no known model's; put a Hugging Face style "
        f"config.json into the folder"
    )


def _faults(checkpoint: Checkpoint) -> list[str]:
    """Every difference between what the model needs and what the checkpoint holds."""
    held = checkpoint.reader.tensors
    needed = {name: shape for recipe in checkpoint.recipes for name, shape in recipe.sources}
    faults = [
        f"missing tensor {name}, shape {list(shape)}"
        for name, shape in needed.items()
        if name not in held
    ]
    faults += [
        f"tensor {name} in {held[name].file}: expected shape {list(shape)}, "
        f"found {list(held[name].shape)}"
        for name, shape in needed.items()
        if name in held and held[name].shape != shape
    ]
    faults += [
        f"unexpected tensor {name} in {tensor.file}, shape {list(tensor.shape)}"
        for name, tensor in held.items()
        if name not in needed and not name.endswith(hf_layout.REDUNDANT_SUFFIXES)
    ]
    return faults


def _settle(dtype: Dtype, reader: TensorReader) -> np.dtype[Any]:
    if dtype != "auto":
        return np.dtype(jnp.dtype(dtype))
    stored = {tensor.dtype for tensor in reader.tensors.values()}
    exact = jax.default_backend() == "cpu" or np.dtype(np.float32) in stored
    return np.dtype(np.float32 if exact else ml_dtypes.bfloat16)


def _size(recipe: Recipe) -> int:
    return sum(math.prod(shape) for _, shape in recipe.sources)


def _to_default_device(_: Path, value: HostArray) -> jax.Array:
    placed: jax.Array = jax.device_put(value)
    return placed
