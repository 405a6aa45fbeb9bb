"""The kernel that quantizes rows, against the plain way: the same bits."""

import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.model import quantize
from rgpipeline.model.kernels import quantize_rows


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(32, 128), (16, 256), (300, 384)])
def test_gives_the_plain_numbers_and_scales(shape: tuple[int, int], dtype: str) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=shape) * np.logspace(-20, 20, shape[0])[:, None]
    rows[3] = 0
    x = jnp.asarray(rows, dtype)
    for found, expected in zip(
        quantize_rows.quantized_rows(x, interpret=True), quantize.quantized_rows(x), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_widths_the_tiles_forbid_are_left_to_the_plain_way() -> None:
    assert quantize_rows.select("tpu", 96) is None
