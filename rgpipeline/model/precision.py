"""How many bits of its operands a product takes."""

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike


def precision_of(dtype: DTypeLike) -> lax.Precision:
    """Float32 products are float32's: TPUs and GPUs would take fewer bits by default."""
    return lax.Precision.HIGHEST if dtype == jnp.float32 else lax.Precision.DEFAULT
