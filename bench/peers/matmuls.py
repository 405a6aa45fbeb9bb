"""The physical limit: the matrix multiplies of this engine's programs, alone, in the same shapes.

No attention, recurrence, norm, activation or sampling. Each step uses every weight matrix once, one
after the other, since each layer of the model depends on the one before.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax

from bench.peers.exchange import (
    FEW_STEPS,
    PROBE_STEPS,
    Batches,
    Curve,
    Rates,
    Run,
    Setup,
    serve,
    timed,
)
from bench.peers.ours import settings_for
from rgpipeline.engine.factory import use_compilation_cache
from rgpipeline.engine.programs.program_shapes import pack_tokens
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.ops import primitives
from rgpipeline.model.ops.cpu_primitives import transposed_matmul
from rgpipeline.model.param_tree import flatten
from rgpipeline.model.weights import loading
from rgpipeline.model.weights.loading import Dtype
from rgpipeline.model.weights.model_source import resolve_source
from rgpipeline.spec import ModelSpec

Matrices = list[jax.Array]  # [*o i], or a block-diagonal one [n g i i]
Multiply = Callable[[jax.Array, jax.Array], jax.Array]  # rows [r i], matrix [o i] to a product
_PREFILL_CALLS = 8


class Matmuls:
    """Multiplies as many rows as a decode step or a prefill call has."""

    def __init__(self, model: str, multiply: Multiply) -> None:
        self._model, self._multiply = model, multiply
        self._weights = lru_cache(maxsize=1)(self._open)

    def _open(self, dtype: str) -> tuple[GriffinConfig, Matrices, jax.Array]:
        model = ModelSpec(weights=self._model, dtype=cast("Dtype", dtype))
        config, params, _ = loading.load(resolve_source(model))
        kernels = {path: leaf for path, leaf in flatten(params).items() if path[-1] == "kernel"}
        matrices = [jnp.asarray(kernels[path]) for path in sorted(kernels)]
        return config, matrices, params["embedder"]["embedding"]

    def try_step(self, setup: Setup) -> float:
        """The products of a few steps."""
        _, matrices, table = self._weights(setup.dtype)
        return _seconds(self._multiply, [*matrices, table], setup.batch, FEW_STEPS)

    def measure(self, setup: Setup) -> Rates:
        """`setup.batch` rows for a step; a call's tokens, without the head, for prefill."""
        config, matrices, table = self._weights(setup.dtype)
        tokens = pack_tokens(settings_for(config, 0, setup), jax.default_backend())
        step_s = _seconds(self._multiply, [*matrices, table], setup.batch, PROBE_STEPS)
        prefill_s = _seconds(self._multiply, matrices, tokens, _PREFILL_CALLS)
        return Rates(tokens / prefill_s, step_s)

    def run(self, setup: Setup, batches: Batches, options: Mapping[str, Any]) -> Run:
        """Nothing is generated here."""
        raise NotImplementedError

    def curve(self, setup: Setup, prompt: int, lengths: list[int]) -> Curve:
        """Nothing is generated here."""
        raise NotImplementedError


def _seconds(multiply: Multiply, matrices: Matrices, rows: int, steps: int) -> float:
    """Seconds to multiply `rows` rows by each of the matrices once."""
    program = jax.jit(partial(_products, multiply=multiply, rows=rows, steps=steps))
    start = jnp.float32(0)
    program(matrices, start).block_until_ready()
    return timed(lambda: program(matrices, start).block_until_ready()) / steps


def _products(
    matrices: Matrices, start: jax.Array, *, multiply: Multiply, rows: int, steps: int
) -> jax.Array:
    def step(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
        # As in the engine: otherwise XLA copies all matrices into another layout before the loop.
        matrices_now, carry = lax.optimization_barrier((matrices, carry))  # type: ignore[no-untyped-call]
        for matrix in matrices_now:
            carry = _times(multiply, matrix, carry, rows)
        return carry, None

    return lax.scan(step, start, length=steps)[0]


def _times(multiply: Multiply, matrix: jax.Array, carry: jax.Array, rows: int) -> jax.Array:
    """A number that depends on the whole product of the matrix and `rows` rows of `carry`."""
    x = jnp.arange(rows)[:, None, None] + jnp.arange(matrix.shape[-1]) + carry
    if matrix.ndim == 4:
        x = jnp.broadcast_to(x[:, :, None], (rows, 1, matrix.shape[0], matrix.shape[-1]))
        product = primitives.einsum("btni,ngji->gbtnj", x.astype(matrix.dtype), matrix)
    else:
        product = multiply(x.reshape(rows, -1), matrix.reshape(-1, matrix.shape[-1]))
    index = jnp.clip(carry.astype(jnp.int32), 0, product.size - 1)
    return jnp.asarray(lax.dynamic_index_in_dim(product.reshape(-1), index, keepdims=False))


def rows_first(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """`x @ W.T`, the usual form."""
    return primitives.einsum("ri,oi->ro", x.astype(matrix.dtype), matrix)


def features_first(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """`W @ x.T`; the result is transposed."""
    return transposed_matmul(matrix, x, 1)


def serve_matmuls(multiply: Multiply) -> None:
    """The main program of a peer that multiplies with this function."""

    def open_peer(arguments: argparse.Namespace) -> Matmuls:
        use_compilation_cache(arguments.cache)
        return Matmuls(str(arguments.model), multiply)

    serve(open_peer)


if __name__ == "__main__":
    serve_matmuls(rows_first)
