"""A step done again and again within one program, a number of times that need not be known."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

State = TypeVar("State")
Made = TypeVar("Made")


def repeated(
    step: Callable[[State, None], tuple[State, Made]],
    state: State,
    steps: jax.Array | None,
    most: int,
) -> tuple[State, Made]:
    """What `lax.scan(step, state, length=steps)` gives, where `steps` may come with the call.

    The same program does any number, and what a step computes doesn't depend on it: so a clock may
    choose it. A number that is known is better where the host would have to follow the loop's turns
    (a GPU).

    Args:
      step: from a state to the next and what it makes, a tree of arrays.
      state: to begin with.
      steps: int32 scalar in [1, most]; None for `most`.
      most: rows of every array that is made; those beyond `steps` mean nothing.
    """
    if steps is None:
        return lax.scan(step, state, length=most)
    step = jax.jit(step, inline=True)  # traced for its shapes, and not again in the loop
    one = jax.eval_shape(step, state, None)[1]
    rows = jax.tree.map(lambda leaf: jnp.zeros((most, *leaf.shape), leaf.dtype), one)

    def turn(index: jax.Array, carried: tuple[State, Made]) -> tuple[State, Made]:
        def put(rows: jax.Array, row: jax.Array) -> jax.Array:
            return jnp.asarray(lax.dynamic_update_index_in_dim(rows, row, index, 0))

        state, made = step(carried[0], None)
        return state, jax.tree.map(put, carried[1], made)

    done: tuple[State, Made] = lax.fori_loop(0, steps, turn, (state, rows))
    return done
