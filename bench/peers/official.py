"""The official library's own sampler as a peer (`recurrentgemma.jax.Sampler`)."""

import argparse
import ctypes
import json
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import recurrentgemma.jax as official
from recurrentgemma.jax import layers
from recurrentgemma.jax.sampler import SamplingState

from bench.peers.exchange import (
    CURVE_STEPS,
    FEW_STEPS,
    READ_PROBE,
    STEPS_PROBE,
    Batches,
    Curve,
    Rates,
    Run,
    Setup,
    serve,
    timed,
)
from bench.peers.official_params import official_params

FILLER = 7
_Reader = Callable[..., Any]
# Places for a batch's output. The number of steps is a value of the state, so one program of
# steps serves all of a bench's workloads; a longer output doubles it.
_OUTPUT = 512
# Steps of the recurrence in one turn of its loop. The library has 128: its program for 64 prompts
# of 257 tokens takes 85 s to compile on two cores of a Zen 5, and reads 12 % slower, than with 16
# (5 s).
_UNROLLED_STEPS = 16


class _Numbers:
    """A vocabulary of numbers for the sampler, whose programs need no texts."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._ids = {name: int(config[f"{name}_token_id"]) for name in ("bos", "pad")}

    def bos_id(self) -> int:
        return self._ids["bos"]

    def pad_id(self) -> int:
        return self._ids["pad"]

    def eos_id(self) -> int:
        return -1


class Official:
    """The sampler, greedy.

    Its two programs, for prompts and for steps, are called as `Sampler.__call__` does. A program
    for prompts is compiled for each prompt length, number of rows and output's places.
    """

    def __init__(self, model: Path) -> None:
        self._model = model
        self._config = json.loads((model / "config.json").read_text())
        self._sampler = lru_cache(maxsize=1)(self._open)
        self._readers: dict[tuple[str, int, int, int], _Reader] = {}

    def _open(self, dtype: str) -> Any:
        params = official_params(self._model, jnp.dtype(dtype))
        config = _griffin_config(self._config)
        model = official.Griffin(config, dtype=jnp.dtype(dtype), param_dtype=jnp.dtype(dtype))
        return official.Sampler(model=model, vocab=_Numbers(self._config), params=params)

    def try_step(self, setup: Setup) -> float:
        """Steps from an empty state."""
        self._compile_steps(setup.dtype, setup.batch, _OUTPUT)
        state = self._empty(setup.dtype, setup.batch, _OUTPUT)
        return timed(lambda: self._steps(setup.dtype, state, FEW_STEPS + 1)) / FEW_STEPS

    def measure(self, setup: Setup) -> Rates:
        """A batch's prompts, then steps from their states."""
        prompts = [[FILLER] * READ_PROBE] * setup.batch
        self._compile_steps(setup.dtype, setup.batch, _OUTPUT)
        self._reader(setup.dtype, setup.batch, READ_PROBE, _OUTPUT)
        read_s, step_s = inf, inf
        for _ in range(2):
            start = time.perf_counter()
            state = self._read(setup.dtype, prompts, READ_PROBE, _OUTPUT)
            read = time.perf_counter()
            self._steps(setup.dtype, state, STEPS_PROBE + 1)
            step_s = min(step_s, (time.perf_counter() - read) / STEPS_PROBE)
            read_s = min(read_s, read - start)
        return Rates(setup.batch * READ_PROBE / read_s, step_s)

    def run(self, setup: Setup, batches: Batches, options: Mapping[str, Any]) -> Run:
        """Each batch to its longest output. Everything is compiled first, and timed apart.

        Option `prompt_lengths`: the length to which each batch's prompts are padded, on the left.
        """
        longest = [max(len(prompt) for prompt, _ in batch) for batch in batches]
        lengths = options.get("prompt_lengths") or longest
        steps = [max(new for _, new in batch) for batch in batches]
        places = _places(max(steps))
        self._sampler(setup.dtype)
        start = time.perf_counter()
        for rows, length in dict.fromkeys(zip(map(len, batches), lengths, strict=True)):
            self._compile_steps(setup.dtype, rows, places)
            self._reader(setup.dtype, rows, length, places)
        compiled = time.perf_counter()
        tokens: list[list[int]] = []
        for batch, length, new in zip(batches, lengths, steps, strict=True):
            state = self._read(setup.dtype, [prompt for prompt, _ in batch], length, places)
            made = np.asarray(self._steps(setup.dtype, state, new).tokens_buffer).tolist()
            tokens += [row[:new] for row, (_, new) in zip(made, batch, strict=True)]
        run = Run(time.perf_counter() - compiled, compiled - start, tokens)
        self._readers.clear()
        _forget_programs()
        return run

    def curve(self, setup: Setup, prompt: int, lengths: list[int]) -> Curve:
        """Continues from an empty state; only the counters say that it is after the prompt.

        The state has a fixed size, and the work of a step does not depend on its values.
        """
        sampler = self._sampler(setup.dtype)
        state = self._empty(setup.dtype, setup.batch, max(lengths) + 2 * CURVE_STEPS)
        step_s = []
        for length in [lengths[0], *lengths]:  # the first time compiles
            state = state.replace(
                step=jnp.asarray(length, jnp.int32),
                total_steps=jnp.asarray(length + CURVE_STEPS + 1, jnp.int32),
                positions=jnp.full((setup.batch, 1), prompt + length, jnp.int32),
            )
            start = time.perf_counter()
            state = sampler.sample_fn(sampler.params, state, False)
            state.tokens_buffer.block_until_ready()
            step_s.append((time.perf_counter() - start) / CURVE_STEPS)
        return Curve(step_s[1:])

    def _reader(self, dtype: str, rows: int, length: int, places: int) -> _Reader:
        """The compiled program for prompts: tokens, random key, lengths to a state."""
        key = (dtype, rows, length, places)
        if key not in self._readers:
            sampler = self._sampler(dtype)
            tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32)  # type: ignore[no-untyped-call]
            lengths = jax.ShapeDtypeStruct((rows,), jnp.int32)  # type: ignore[no-untyped-call]
            lowered = sampler.prompt_processing_fn.lower(
                sampler.params, tokens, None, lengths, places, False, False
            )
            self._readers[key] = lowered.compile()
        return self._readers[key]

    def _read(self, dtype: str, prompts: list[list[int]], length: int, places: int) -> Any:
        """The state after the prompts, with the first new token."""
        pad = self._config["pad_token_id"]
        rows = [[pad] * (length - len(prompt)) + prompt for prompt in prompts]
        reader = self._reader(dtype, len(rows), length, places)
        lengths = jnp.asarray([len(prompt) for prompt in prompts], jnp.int32)
        state = reader(self._sampler(dtype).params, jnp.asarray(rows, jnp.int32), None, lengths)
        return jax.block_until_ready(state)  # type: ignore[no-untyped-call]

    def _steps(self, dtype: str, state: Any, total: int) -> Any:
        """The state with `total` new tokens; takes over the given one's memory."""
        sampler = self._sampler(dtype)
        state = state.replace(total_steps=jnp.asarray(total, jnp.int32))
        state = sampler.sample_fn(sampler.params, state, False)
        return jax.block_until_ready(state)  # type: ignore[no-untyped-call]

    def _compile_steps(self, dtype: str, rows: int, places: int) -> None:
        """By a call without a step: the library's types refuse to be lowered without values."""
        self._steps(dtype, self._empty(dtype, rows, places), 0)

    def _empty(self, dtype: str, rows: int, places: int) -> Any:
        return SamplingState(
            tokens_buffer=jnp.zeros((rows, places), jnp.int32),
            rng=None,
            step=jnp.asarray(0, jnp.int32),
            total_steps=jnp.asarray(0, jnp.int32),
            positions=jnp.ones((rows, 1), jnp.int32),
            cache=self._sampler(dtype).model.init_cache(rows, jnp.dtype(dtype)),
            done=jnp.zeros((rows,), jnp.bool_),
        )


def _unroll_fewer_steps() -> None:
    """Lets the library's layers compile the recurrence with `_UNROLLED_STEPS`."""
    scan = layers.scan.linear_scan

    def linear_scan(*arguments: Any, **options: Any) -> Any:
        return scan(*arguments, **{**options, "unroll": _UNROLLED_STEPS})

    layers.scan.linear_scan = linear_scan


def _places(steps: int) -> int:
    places = _OUTPUT
    while places < steps:
        places *= 2
    return places


def _forget_programs() -> None:
    """Frees the memory of compiled programs: gigabytes for each prompt length."""
    jax.clear_caches()  # type: ignore[no-untyped-call]
    ctypes.CDLL(None).malloc_trim(0)


def _griffin_config(fields: Mapping[str, Any]) -> Any:
    kinds = fields["block_types"]
    depth = fields["num_hidden_layers"]
    kind = official.TemporalBlockType
    return official.GriffinConfig(
        vocab_size=fields["vocab_size"],
        width=fields["hidden_size"],
        mlp_expanded_width=fields["intermediate_size"] // 2,
        num_heads=fields["num_attention_heads"],
        block_types=tuple(kind[kinds[i % len(kinds)].upper()] for i in range(depth)),
        embeddings_scale_by_sqrt_dim=fields["embeddings_scale_by_sqrt_dim"],
        attention_window_size=fields["attention_window_size"],
        logits_soft_cap=fields["logits_soft_cap"],
        lru_width=fields["lru_width"],
    )


def _open(arguments: argparse.Namespace) -> Official:
    cache = str(arguments.cache / "official")
    jax.config.update("jax_compilation_cache_dir", cache)  # type: ignore[no-untyped-call]
    _unroll_fewer_steps()
    return Official(arguments.model)


if __name__ == "__main__":
    serve(_open)
