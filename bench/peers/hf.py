"""Hugging Face's RecurrentGemma as a peer: `generate` on batches padded on the left.

Runs in an environment of its own (see `bench.environments`), without this project's dependencies.
Padding changes the outputs of this model there, so only the speed of such batches is used.
"""

import argparse
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch._dynamo.utils import compilation_time_metrics

from bench.peers.exchange import (
    Batches,
    Curve,
    Rates,
    Run,
    Setup,
    few_steps_of,
    rates_of,
    serve,
)

FILLER = 7


class HuggingFace:
    """`generate`, greedy, never stopping early.

    Its ways: `eager` with the cache that grows, `static` with one of a fixed size, and `compiled`,
    in which `generate` compiles the decode step over the cache of a fixed size.
    """

    def __init__(self, model: Path) -> None:
        self._folder = model
        self._model = lru_cache(maxsize=1)(self._open)

    def _open(self, dtype: str) -> Any:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            self._folder, dtype=getattr(torch, dtype)
        )
        model.generation_config.eos_token_id = None
        return model.eval()

    def try_step(self, setup: Setup) -> float:
        """See `few_steps_of`."""
        return few_steps_of(lambda prompt, new: self._generate_filler(setup, prompt, new))

    def measure(self, setup: Setup) -> Rates:
        """See `rates_of`."""
        return rates_of(setup.batch, lambda prompt, new: self._generate_filler(setup, prompt, new))

    def run(self, setup: Setup, batches: Batches, _: dict[str, Any]) -> Run:
        """One call for each batch, to its longest output; compilation is counted separately."""
        self._generate_filler(setup, 8, 4)  # loads; compiles, except for a last, smaller batch
        tokens: list[list[int]] = []
        start, compiled = time.perf_counter(), _compiled_s()
        for batch in batches:
            prompts = [prompt for prompt, _ in batch]
            made = self._generate(setup, prompts, max(new for _, new in batch))
            tokens += [row[:new] for row, (_, new) in zip(made, batch, strict=True)]
        compile_s = _compiled_s() - compiled
        return Run(time.perf_counter() - start - compile_s, compile_s, tokens)

    def curve(self, setup: Setup, prompt: int, lengths: list[int]) -> Curve:
        """Not needed: figure 1a compares Griffin with a transformer (see `gemma`)."""
        raise NotImplementedError

    def _generate_filler(self, setup: Setup, prompt: int, new: int) -> None:
        self._generate(setup, [[FILLER] * prompt] * setup.batch, new)

    def _generate(self, setup: Setup, prompts: list[list[int]], new: int) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = [[0] * (longest - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        model = self._model(setup.dtype)
        with torch.inference_mode():
            made = model.generate(
                input_ids=torch.tensor(ids),
                attention_mask=torch.tensor(mask),
                max_new_tokens=new,
                do_sample=False,
                **_options(setup.way, model.config.sliding_window),
            )
        rows: list[list[int]] = made[:, longest:].tolist()
        return rows


def _options(way: str, window: int) -> dict[str, Any]:
    if way == "eager":
        return {}
    # A cache of at least the window has one shape for all lengths: the window's.
    static = {"cache_implementation": "static", "max_cache_len": window}
    if way == "static":
        return {**static, "disable_compile": True}
    config: Any = transformers.CompileConfig(dynamic=False, mode="default")
    config._compile_all_devices = True  # else `generate` compiles for accelerators only
    return {**static, "compile_config": config}


def _compiled_s() -> float:
    """Seconds of `torch.compile` in this process so far."""
    seconds: float = sum(compilation_time_metrics.get("_compile.compile_inner", ()))
    return seconds


def _open(arguments: argparse.Namespace) -> HuggingFace:
    # Not the folder that all processes share: a compilation that was killed leaves a broken file.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(arguments.cache.absolute() / "inductor")
    return HuggingFace(arguments.model)


if __name__ == "__main__":
    serve(_open)
