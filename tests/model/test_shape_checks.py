"""Annotated shapes of the model's functions are checked in all tests, by the root conftest."""

import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from rgpipeline.model.layers import rglru


def test_an_array_of_another_rank_than_annotated_is_refused() -> None:
    inner = 4
    weights = rglru.RecurrentWeights(
        conv_kernel=jnp.zeros((4, inner)),
        conv_bias=jnp.zeros(inner),
        gates=jnp.zeros((1, inner, 2 * inner)),
        gates_bias=jnp.zeros(2 * inner),
        a_param=jnp.zeros(inner),
    )
    with pytest.raises(TypeCheckError):
        rglru.forward(jnp.zeros((1, 3, 2 * inner)), weights, starts=jnp.zeros((1, 3, 1), bool))
