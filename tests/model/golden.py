"""The golden cases: what the official library says of tiny models (tests/golden/README.md)."""

import json
from pathlib import Path

import numpy as np

from rgpipeline.model.weights.loading import load
from tests.model.running import Runner
from tests.sources import source

FOLDER = Path(__file__).parent.parent / "golden"
CASES = ("a", "a2", "a3_hawk")


class Golden:
    """One case: the model, and what it must say."""

    def __init__(self, case: str) -> None:
        self.folder = FOLDER / case
        meta = json.loads((self.folder / "meta.json").read_text())
        expected = np.load(self.folder / "expected.npz")
        each = range(meta["prompts"])
        self.steps: int = meta["greedy_steps"]
        self.prompts = [expected[f"prompt_{i}"] for i in each]
        self.logits = [expected[f"logits_{i}"] for i in each]
        self.greedy = np.stack([expected[f"greedy_{i}"] for i in each])
        self.top_logprobs = [expected[f"top5_logp_{i}"] for i in each]
        config, params, _ = load(source(self.folder / "hf", "float32"))
        self.runner = Runner(config, params)
