"""The official library's own sampler as a peer (`recurrentgemma.jax.Sampler`)."""

import argparse
import ctypes
import json
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import recurrentgemma.jax as official

from bench.peers.exchange import (
    CURVE_STEPS,
    Batches,
    Curve,
    Rates,
    Run,
    Setup,
    rates_of,
    serve,
)
from bench.peers.official_params import official_params

_COMPILE_EVENTS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
FILLER = 7


class _Numbers:
    """A vocabulary for the sampler: texts are token ids, separated by blanks."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._ids = {name: int(config[f"{name}_token_id"]) for name in ("bos", "pad")}

    def EncodeAsIds(self, text: str) -> list[int]:  # noqa: N802 (SentencePiece's name)
        return [int(token) for token in text.split()]

    def DecodeIds(self, ids: list[int]) -> str:  # noqa: N802
        return ""

    def bos_id(self) -> int:
        return self._ids["bos"]

    def pad_id(self) -> int:
        return self._ids["pad"]

    def eos_id(self) -> int:
        return -1


class Official:
    """The sampler, greedy; its programs are compiled for each prompt length and output length."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._config = json.loads((model / "config.json").read_text())
        self._sampler = lru_cache(maxsize=1)(self._open)
        self._compiled_s = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._note)

    def _open(self, dtype: str) -> Any:
        params = official_params(self._model, jnp.dtype(dtype))
        config = _griffin_config(self._config)
        model = official.Griffin(config, dtype=jnp.dtype(dtype), param_dtype=jnp.dtype(dtype))
        return official.Sampler(model=model, vocab=_Numbers(self._config), params=params)

    def _note(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event in _COMPILE_EVENTS:
            self._compiled_s += duration_secs

    def measure(self, setup: Setup) -> Rates:
        """See `rates_of`; its warm-up compiles."""

        def generate(prompt: int, new: int) -> None:
            self._sample(setup, [[FILLER] * prompt] * setup.batch, new)

        return rates_of(setup.batch, generate)

    def run(self, setup: Setup, batches: Batches, _: Mapping[str, Any]) -> Run:
        """One call for each batch, to its longest output; compilation is counted separately."""
        self._sampler(setup.dtype)
        tokens: list[list[int]] = []
        compiled, seconds = self._compiled_s, 0.0
        for batch in batches:
            start = time.perf_counter()
            made = self._sample(setup, [prompt for prompt, _ in batch], max(n for _, n in batch))
            tokens += [row[:new] for row, (_, new) in zip(made, batch, strict=True)]
            seconds += time.perf_counter() - start
            _forget_programs()
        compile_s = self._compiled_s - compiled
        return Run(seconds - compile_s, compile_s, tokens)

    def curve(self, setup: Setup, prompt: int, lengths: list[int]) -> Curve:
        """Continues from a real prompt; between the lengths only the counters are advanced.

        The state has a fixed size, and the work of a step does not depend on its values.
        """
        sampler = self._sampler(setup.dtype)
        total = max(lengths) + 2 * CURVE_STEPS
        ids = jnp.full((setup.batch, prompt), FILLER, jnp.int32)
        whole = jnp.full((setup.batch,), prompt)
        state = sampler.prompt_processing_fn(sampler.params, ids, None, whole, total, False, False)
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

    def _sample(self, setup: Setup, prompts: list[list[int]], new: int) -> list[list[int]]:
        # The sampler puts BOS before every text.
        texts = [" ".join(map(str, prompt[1:])) for prompt in prompts]
        output = self._sampler(setup.dtype)(texts, new, end_sampling_at_eos_token=False)
        return [np.asarray(row).tolist() for row in output.tokens]


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
    return Official(arguments.model)


if __name__ == "__main__":
    serve(_open)
