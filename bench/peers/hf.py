"""Hugging Face's RecurrentGemma as a peer: `generate` on batches padded on the left.

Runs in an environment of its own (see `bench.hf_environment`), without this project's dependencies.
Padding changes the outputs of this model there, so only the speed of such batches is used.
"""

import argparse
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers

from bench.peers.exchange import (
    Batches,
    Curve,
    Rates,
    Run,
    Setup,
    rates_of,
    serve,
)

FILLER = 7


class HuggingFace:
    """`generate`, greedy, never stopping early."""

    def __init__(self, model: Path) -> None:
        self._folder = model
        self._model = lru_cache(maxsize=1)(self._open)

    def _open(self, dtype: str) -> Any:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            self._folder, dtype=getattr(torch, dtype)
        )
        model.generation_config.eos_token_id = None
        return model.eval()

    def measure(self, setup: Setup) -> Rates:
        """See `rates_of`."""

        def generate(prompt: int, new: int) -> None:
            self._generate(setup, [[FILLER] * prompt] * setup.batch, new)

        return rates_of(setup.batch, generate)

    def run(self, setup: Setup, batches: Batches, _: dict[str, Any]) -> Run:
        """One call for each batch, to its longest output."""
        self._generate(setup, [[FILLER] * 8] * setup.batch, 2)
        tokens: list[list[int]] = []
        start = time.perf_counter()
        for batch in batches:
            prompts = [prompt for prompt, _ in batch]
            made = self._generate(setup, prompts, max(new for _, new in batch))
            tokens += [row[:new] for row, (_, new) in zip(made, batch, strict=True)]
        return Run(time.perf_counter() - start, tokens=tokens)

    def curve(self, setup: Setup, prompt: int, lengths: list[int]) -> Curve:
        """Not needed: figure 1a compares Griffin with a transformer (see `gemma`)."""
        raise NotImplementedError

    def _generate(self, setup: Setup, prompts: list[list[int]], new: int) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = [[0] * (longest - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        with torch.inference_mode():
            made = self._model(setup.dtype).generate(
                input_ids=torch.tensor(ids),
                attention_mask=torch.tensor(mask),
                max_new_tokens=new,
                do_sample=False,
            )
        rows: list[list[int]] = made[:, longest:].tolist()
        return rows


def _open(arguments: argparse.Namespace) -> HuggingFace:
    return HuggingFace(arguments.model)


if __name__ == "__main__":
    serve(_open)
