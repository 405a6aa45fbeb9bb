"""Int8 quantization: each row has a float32 scale, with which its largest number is 127.

    weights       a row of a matrix makes one output; a row of the embedding is a token
    activations   a row is a token, with a scale of its own: no row depends on its neighbours
    rings         a row is the key or the value of one token

A product of two such matrices is exact in int32, whatever the order of summing; both scales are
applied to the result. Norms, biases, convolutions and the RG-LRU's gates and decays stay floats:
together they are a hundredth of the weights, and the accuracy of the state depends on them.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from numpy.typing import NDArray

from rgpipeline.model.host_arrays import empty_aligned
from rgpipeline.model.param_tree import HostArray, ParamPath

LARGEST = 127.0
_HOST_VALUES = 1 << 20  # values that are float32 on the host at one time
LEAST_SCALE = 1e-30  # its reciprocal is finite


def is_quantized(path: ParamPath) -> bool:
    """Whether int8 models hold the parameter at `path` in int8, with its scales beside it."""
    return path[-1] == "embedding" or (path[-1] == "kernel" and path[-2] != "gates")


def scale_path(path: ParamPath) -> ParamPath:
    """The path of the scales of the parameter at `path`; they lack its last axis."""
    return (*path[:-1], f"{path[-1]}_scale")


def quantized_weights(value: HostArray) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A matrix [*o i] of any float dtype as int8 [*o i] and float32 scales [*o], on the host.

    It needs memory for the result, and for float32 copies of a million values at a time.
    """
    matrix = value.reshape(-1, value.shape[-1])
    numbers = empty_aligned(matrix.shape, np.int8)
    scales = np.empty(len(matrix), np.float32)
    step = max(1, _HOST_VALUES // matrix.shape[1])
    for first in range(0, len(matrix), step):
        rows = matrix[first : first + step].astype(np.float32)
        scale = np.maximum(np.abs(rows).max(axis=1) / np.float32(LARGEST), LEAST_SCALE)
        with np.errstate(invalid="ignore"):  # NaN: the row's scale is NaN too
            rows *= (1 / scale)[:, None]
            numbers[first : first + step] = np.rint(rows, out=rows)
        scales[first : first + step] = scale
    return numbers.reshape(value.shape), scales.reshape(value.shape[:-1])


def quantized_rows(x: Array) -> tuple[Array, Array]:
    """Floats [... i] as int8 [... i] and float32 scales [...].

    The scale of a row with NaN or infinity in it is NaN.
    """
    x = x.astype(jnp.float32)
    scale = jnp.maximum(jnp.max(jnp.abs(x), axis=-1) / LARGEST, LEAST_SCALE)
    # XLA's CPU backend may leave NaN out of a maximum, but not out of a sum.
    scale = scale + jnp.sum(x * 0, axis=-1)
    return jnp.round(x * (1 / scale)[..., None]).astype(jnp.int8), scale


def dequantized(numbers: Array, scale: Array, dtype: DTypeLike) -> Array:
    """The floats that int8 [... i] with scales [...] stand for."""
    return jnp.asarray(numbers.astype(jnp.float32) * scale[..., None], dtype)
