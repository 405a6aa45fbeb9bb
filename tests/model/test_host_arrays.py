"""Weights on a CPU are the arrays that were read: jax copies none of them."""

import jax
import numpy as np
import pytest

from rgpipeline.model.host_arrays import aligned_copy
from rgpipeline.model.quantize import quantized_weights

VALUE = np.arange(6 * 64, dtype=np.float32).reshape(6, 64)


def shares_memory(host: np.ndarray, on_device: jax.Array) -> bool:
    return on_device.unsafe_buffer_pointer() == host.ctypes.data


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_converted_array_is_used_as_it_is(dtype: str) -> None:
    host = aligned_copy(VALUE, jax.numpy.dtype(dtype))
    assert shares_memory(host, jax.device_put(host, jax.devices("cpu")[0]))
    assert np.array_equal(host, VALUE.astype(jax.numpy.dtype(dtype)))


def test_an_int8_matrix_is_used_as_it_is() -> None:
    numbers, _ = quantized_weights(VALUE)
    assert shares_memory(numbers, jax.device_put(numbers, jax.devices("cpu")[0]))
