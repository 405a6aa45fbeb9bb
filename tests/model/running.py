"""Running a model over whole prompts in every way it can be run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.engine.programs import device_programs
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.griffin_state import GriffinState, init_state
from rgpipeline.model.layers.griffin import Griffin

# Programs of tiny models take longer to compile than to run.
COMPILED_FAST = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


@contextmanager
def engines_compiled_fast() -> Iterator[None]:
    """Meanwhile, engines compile their programs as a `Runner` does, and not as a worker does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_programs, "compiler_options", lambda platform: COMPILED_FAST)
        yield


@cache
def _shared_program(config: GriffinConfig, dtype: Any, method: str) -> Any:
    """One for all models of a configuration, which is traced once for each shape."""
    apply = partial(Griffin(config, dtype).apply, method=method)
    return jax.jit(apply, compiler_options=COMPILED_FAST)


def _own_program(config: GriffinConfig, dtype: Any, method: str) -> Any:
    return jax.jit(partial(Griffin(config, dtype).apply, method=method))


class Runner:
    """One model's compiled programs.

    `optimized`: they are compiled as a worker compiles them, and traced anew. For what depends on
    the compiler (bits), runs long, or changes what is traced.
    """

    def __init__(
        self,
        config: GriffinConfig,
        params: Any,
        dtype: Any = jnp.float32,
        quantized: bool = False,
        *,
        optimized: bool = False,
    ) -> None:
        self.config, self.params, self.quantized = config, params, quantized
        self.dtype = jnp.dtype(dtype)
        program = _own_program if optimized else _shared_program
        self.forward, self.prefill, self.decode, self.logits = (
            partial(program(config, self.dtype, method), {"params": params})
            for method in ("forward", "prefill", "decode", "logits")
        )

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
