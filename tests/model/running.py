"""Running a model over whole prompts in every way it can be run."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.griffin_state import GriffinState, init_state
from rgpipeline.model.layers.griffin import Griffin


class Runner:
    """One model's compiled programs."""

    def __init__(
        self, config: GriffinConfig, params: Any, dtype: Any = jnp.float32, quantized: bool = False
    ) -> None:
        self.config, self.params, self.dtype, self.quantized = config, params, dtype, quantized
        self.model = Griffin(config, dtype)

    def _program(self, method: str) -> Any:
        return partial(jax.jit(partial(self.model.apply, method=method)), {"params": self.params})

    @cached_property
    def forward(self) -> Any:
        return self._program("forward")

    @cached_property
    def prefill(self) -> Any:
        return self._program("prefill")

    @cached_property
    def decode(self) -> Any:
        return self._program("decode")

    @cached_property
    def logits(self) -> Any:
        return self._program("logits")

    def empty(self, batch: int) -> GriffinState:
        return init_state(self.config, batch, self.dtype, self.quantized)

    def in_chunks(
        self, prompts: Sequence[np.ndarray], chunk: int, state: GriffinState | None = None
    ) -> tuple[list[np.ndarray], GriffinState]:
        """Every prompt's logits [n v], all prompts as one ragged batch, and the last state."""
        tokens, lengths = padded(prompts)
        state = state or self.empty(len(prompts))
        outputs = []
        for first in range(0, tokens.shape[1], chunk):
            block = np.full((len(prompts), chunk), 3, np.int32)
            piece = tokens[:, first : first + chunk]
            block[:, : piece.shape[1]] = piece
            counted = np.clip(lengths - first, 0, chunk).astype(np.int32)
            hidden, state = self.prefill(block, counted, state)
            outputs.append(np.asarray(self.logits(hidden)))
        return cut(np.concatenate(outputs, axis=1), lengths), state

    def token_by_token(self, prompts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Every prompt's logits [n v], by decode alone; rows that are done stay inactive."""
        tokens, lengths = padded(prompts)
        state = self.empty(len(prompts))
        outputs = []
        for index in range(tokens.shape[1]):
            hidden, state = self.decode(tokens[:, index], index < lengths, state)
            outputs.append(np.asarray(self.logits(hidden)))
        return cut(np.stack(outputs, axis=1), lengths)

    def greedy(self, last: np.ndarray, state: GriffinState, steps: int) -> np.ndarray:
        """Greedy continuations [b steps], `last` [b v] being the prompts' last logits."""
        active, chosen = np.ones(len(last), bool), [last.argmax(-1).astype(np.int32)]
        for _ in range(steps - 1):
            hidden, state = self.decode(chosen[-1], active, state)
            chosen.append(np.asarray(self.logits(hidden)).argmax(-1).astype(np.int32))
        return np.stack(chosen, axis=1)


def padded(prompts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    tokens = np.full((len(prompts), lengths.max()), 3, np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    return tokens, lengths


def cut(values: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return [value[:length] for value, length in zip(values, lengths, strict=True)]


def worst(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    return max(float(np.abs(f - e).max()) for f, e in zip(found, expected, strict=True))
