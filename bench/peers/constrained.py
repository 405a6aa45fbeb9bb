"""This engine as a peer whose rows may have grammars."""

import argparse
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from bench.peers.exchange import Batches, Run, Setup, serve
from bench.peers.ours import Ours, generate
from rgpipeline.engine.factory import use_compilation_cache
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.step_tuner import StepTuner
from rgpipeline.records import Request
from rgpipeline.spec import Sampling
from rgpipeline.text.grammars import TextGrammars
from rgpipeline.text.tokenizer import Tokenizer


class Constrained(Ours):
    """The engine, the model's tokenizer, and grammars over it."""

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.model)

    @lru_cache(maxsize=1)  # noqa: B019 - there is one peer in a process
    def _grammars(self, engine: GriffinEngine) -> TextGrammars:
        return TextGrammars(self._tokenizer, engine.vocab_size, engine.eos_ids)

    def run(self, setup: Setup, batches: Batches, options: Mapping[str, Any]) -> Run:
        """All rows through one loop. Option `structured`: each row's grammar.

        Without it, each row has exactly as many tokens as it says.
        """
        engine = self.engine(setup)
        tuner = StepTuner(engine.settings.steps_per_dispatch)
        loop = Loop(engine, tuner=tuner, grammars=self._grammars(engine))
        rows = [row for batch in batches for row in batch]
        wanted = options.get("structured") or [None] * len(rows)
        each = zip(rows, wanted, strict=True)
        requests = [_request(index, *row, grammar) for index, (row, grammar) in enumerate(each)]
        return generate(loop, requests)


def _request(key: int, prompt: list[int], new: int, grammar: dict[str, Any] | None) -> Request:
    sampling = Sampling(max_tokens=new, structured_outputs=grammar, ignore_eos=grammar is None)
    return Request(key, np.asarray(prompt, np.int32), sampling, (0, key))


def _open(arguments: argparse.Namespace) -> Constrained:
    use_compilation_cache(arguments.cache)
    return Constrained(str(arguments.model))


if __name__ == "__main__":
    serve(_open)
