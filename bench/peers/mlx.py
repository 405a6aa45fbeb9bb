"""MLX as a peer: the continuous batching of mlx-lm, on the CPU.

Runs in an environment of its own (see `bench.environments`), without this project's dependencies.
The model there ignores padding in its recurrent layers. So each prompt is read by itself, and its
state joins the batch: outputs are those of the row alone.
"""

import argparse
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

from bench.peers.exchange import (
    FEW_STEPS,
    READ_PROBE,
    SHORT_PROBE,
    STEPS_PROBE,
    Batches,
    Curve,
    Rates,
    Row,
    Run,
    Setup,
    serve,
)

FILLER = 7
_READ_ROWS = 2  # prompts with which the speed of reading is measured
# Fields that a real model's configuration has, and the bench's model leaves to their defaults.
_DEFAULTS = {"rope_theta": 10_000.0, "attention_bias": False}


class Mlx:
    """`BatchGenerator`, greedy, without an end-of-sequence token."""

    def __init__(self, model: Path) -> None:
        self._folder = model
        self._model = lru_cache(maxsize=1)(self._open)

    def _open(self, dtype: str) -> Any:
        model, _ = load_model(self._folder, model_config=_DEFAULTS)
        model.set_dtype(getattr(mx, dtype))
        mx.eval(model.parameters())
        return model

    def try_step(self, setup: Setup) -> float:
        """Steps of a full batch."""
        return self._step_s(setup, FEW_STEPS)

    def measure(self, setup: Setup) -> Rates:
        """Prompts one by one, then steps of a full batch."""
        model = self._model(setup.dtype)
        tokens = mx.full((1, READ_PROBE), FILLER)
        start = time.perf_counter()
        for _ in range(_READ_ROWS):
            cache = make_prompt_cache(model)
            model(tokens, cache=cache)
            mx.eval([layer.state for layer in cache])
        read_s = time.perf_counter() - start
        return Rates(_READ_ROWS * READ_PROBE / read_s, self._step_s(setup, STEPS_PROBE))

    def _step_s(self, setup: Setup, steps: int) -> float:
        generator = self._generator(setup, setup.batch)
        rows = [[FILLER] * SHORT_PROBE] * setup.batch
        generator.insert(rows, [1 << 20] * setup.batch)
        while len(generator.next_generated()) < setup.batch:
            pass
        start = time.perf_counter()
        for _ in range(steps):
            generator.next_generated()
        return (time.perf_counter() - start) / steps

    def run(self, setup: Setup, batches: Batches, _: dict[str, Any]) -> Run:
        """All rows through one generator, whatever their batches; longest outputs first."""
        rows = [row for batch in batches for row in batch]
        self._all_rows(setup, [([FILLER] * 8, 2)] * 2)  # loads
        start = time.perf_counter()
        tokens = self._all_rows(setup, rows)
        return Run(time.perf_counter() - start, tokens=tokens)

    def curve(self, setup: Setup, prompt: int, lengths: list[int]) -> Curve:
        """Not needed: figure 1a compares Griffin with a transformer."""
        raise NotImplementedError

    def _all_rows(self, setup: Setup, rows: list[Row]) -> list[list[int]]:
        generator = self._generator(setup, 1)
        order = sorted(range(len(rows)), key=lambda index: -rows[index][1])
        keys = generator.insert([rows[i][0] for i in order], [rows[i][1] for i in order])
        index_of = dict(zip(keys, order, strict=True))
        tokens: list[list[int]] = [[] for _ in rows]
        left = len(rows)
        while left:
            for response in generator.next_generated():
                tokens[index_of[response.uid]].append(response.token)
                left -= response.finish_reason is not None
        return tokens

    def _generator(self, setup: Setup, prompts: int) -> Any:
        """A generator that reads so many prompts at once; they have to be of one length."""
        return BatchGenerator(
            self._model(setup.dtype),
            completion_batch_size=setup.batch,
            prefill_batch_size=prompts,
        )


def _open(arguments: argparse.Namespace) -> Mlx:
    return Mlx(arguments.model)


if __name__ == "__main__":
    serve(_open)
