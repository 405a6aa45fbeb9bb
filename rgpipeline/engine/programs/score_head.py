"""What is made of a pack's hidden values: log-probabilities of given tokens, and sums.

The head runs on those positions of the pack that need it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.sampling.reductions import largest, sum_exp
from rgpipeline.engine.text_requests import TokenScores
from rgpipeline.model.layers.griffin import Griffin

if TYPE_CHECKING:
    from rgpipeline.engine.programs.device_programs import DevicePrograms

Params = Any


def log_probabilities(
    model: Griffin, params: Params, hidden: jax.Array, positions: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities of the tokens after some of a pack's positions; a program.

    Args:
      model, params: as everywhere.
      hidden: of a pack, as `forward.read` returns it, float32 [r t d].
      positions: int32 [n], indices into the flattened r and t.
      targets: int32 [n], the tokens.

    Returns:
      Log-probabilities float32 [n], and bool [n]: whether each token is the most probable.
    """
    chosen = hidden.reshape(-1, hidden.shape[-1])[positions]
    logits = jnp.asarray(model.apply({"params": params}, chosen, method="logits"))
    share = softmax_share(logits, targets - model.chips.axis_index() * logits.shape[-1])
    return reduce_softmax(model.chips.all_gather(share))


def sums(hidden: jax.Array, counted: jax.Array) -> jax.Array:
    """Sums of each row's hidden values over some of its positions; a program.

    Args:
      hidden: of a pack, as `forward.read` returns it, float32 [r t d].
      counted: bool [r t]. Where it is false the hidden values may be anything, even NaN.

    Returns:
      float32 [r d].
    """
    return jnp.sum(jnp.where(counted[..., None], hidden, 0), axis=1)


def softmax_share(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """One chip's part of each row's softmax.

    Args:
      logits: float32 [t, v], this chip's part of the vocabulary.
      targets: int32 [t], the tokens asked for; outside [0, v) they are another chip's.

    Returns:
      float32 [4, t]: the largest logit, the sum of exp(logit - largest), the target's logit, or
      minus infinity where it is another chip's, and how many ids the first token with the largest
      logit is above the target.
    """
    most, first = largest(logits)
    total = sum_exp(logits, most)
    here = (targets >= 0) & (targets < logits.shape[-1])
    picked = jnp.take_along_axis(logits, targets[:, None], axis=-1, mode="clip")[:, 0]
    above = (first - targets).astype(jnp.float32)  # exact: there are fewer than 2^24 tokens
    return jnp.stack([most, total, jnp.where(here, picked, -jnp.inf), above])


def reduce_softmax(shares: jax.Array) -> tuple[jax.Array, jax.Array]:
    """From all chips' shares, [m, 4, t]: log-probabilities float32 [t], and bool [t]."""
    most, total, picked, above = (shares[:, which] for which in range(4))
    highest = jnp.max(most, axis=0)
    whole = jnp.sum(total * jnp.exp(most - highest), axis=0)
    logprobs = jnp.max(picked, axis=0) - highest - jnp.log(whole)
    first = jnp.min(jnp.where(most == highest, above, jnp.inf), axis=0)
    return logprobs, first == 0


@dataclass(frozen=True, slots=True)
class DeviceHidden:
    """`api.Hidden` of a GriffinEngine."""

    hidden: jax.Array  # float32 [r t d]
    programs: "DevicePrograms"
    params: Params
    block: int  # positions that a group's head reads in one call
    groups: int  # of chips

    def log_probabilities(self, targets: NDArray[np.int32]) -> "DeviceScores":
        head = partial(self.programs.log_probabilities, self.params, self.hidden)
        return score_positions(head, targets, self.block, self.groups)

    def sums(self, counted: NDArray[np.bool_]) -> "DeviceSums":
        return DeviceSums(self.programs.sums(self.hidden, counted))


@dataclass(frozen=True, slots=True)
class DeviceSums:
    """Sums of each row's hidden values, as `api.PendingValues`."""

    sums: jax.Array  # float32 [r d]

    def read(self) -> NDArray[np.float32]:
        return np.asarray(self.sums)


@dataclass(frozen=True, slots=True)
class DeviceScores:
    """`api.PendingScores` of a GriffinEngine."""

    shape: tuple[int, int]
    # Of each call of the head: positions in the pack, where they are in the results, the results.
    blocks: list[tuple[NDArray[np.int64], NDArray[np.int64], Any]]

    def read(self) -> TokenScores:
        scores = TokenScores(np.zeros(self.shape, np.float32), np.zeros(self.shape, np.bool_))
        for positions, indices, found in self.blocks:
            for array, values in zip(scores, found, strict=True):
                array.reshape(-1)[positions] = np.asarray(values)[indices]
        return scores


def score_positions(
    head: Callable[[NDArray[np.int32], NDArray[np.int32]], Any],
    targets: NDArray[np.int32],
    block: int,
    groups: int,
) -> DeviceScores:
    """Runs the head on those positions of a pack that have a target, block by block.

    Args:
      head: (positions [groups * block], targets [groups * block]) -> `TokenScores`. Each group
        of chips has an equal part of the rows and of the positions asked for, and numbers its own
        positions from 0.
      targets: [r, t], -1 where nothing is asked for.
      block: positions that a group's head reads in one call.
      groups: of chips.
    """
    each = targets.size // groups
    wanted = [np.flatnonzero(part >= 0) for part in targets.reshape(groups, each)]
    blocks = []
    for start in range(0, max(map(len, wanted)), block):
        own = [positions[start : start + block] for positions in wanted]
        indices = np.concatenate([g * block + np.arange(len(part)) for g, part in enumerate(own)])
        positions = np.concatenate([g * each + part for g, part in enumerate(own)])
        asked, tokens = np.zeros((2, groups * block), np.int32)
        asked[indices] = np.concatenate(own)
        tokens[indices] = targets.reshape(-1)[positions]
        blocks.append((positions, indices, head(asked, tokens)))
    return DeviceScores((targets.shape[0], targets.shape[1]), blocks)
