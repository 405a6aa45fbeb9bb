"""Arrays in the host's memory that jax's CPU backend uses as they are.

It copies an array whose first byte is not at a multiple of 64, into pages of 4 kB that the kernel
must provide one by one. NumPy's own arrays are at multiples of 16; it asks for huge pages.
"""

import math
from typing import Any

import numpy as np
from jax.typing import DTypeLike
from numpy.typing import NDArray

from rgpipeline.model.param_tree import HostArray

_ALIGNMENT = 64


def empty_aligned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array with any values in it, at a multiple of 64 bytes."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    made: NDArray[Any] = memory[first : first + size].view(dtype).reshape(shape)
    return made


def aligned_copy(value: HostArray, dtype: DTypeLike) -> HostArray:
    """`value` in `dtype`, at a multiple of 64 bytes."""
    made = empty_aligned(value.shape, dtype)
    made[...] = value
    return made
