"""Runs one workload on one device, and divided in every way among eight.

A process of its own, because a CPU is made eight devices before jax begins. Writes a JSON object
to the file named on the command line: by layout, what came of each row.
"""

import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.programs.lowering import PLAIN, worker_programs
from rgpipeline.engine.step_tuner import StepTuner
from rgpipeline.engine.text_requests import TextRequest
from rgpipeline.model.collectives import Chips
from rgpipeline.model.config import ATTENTION, GRIFFIN_CYCLE, RECURRENT, GriffinConfig, cycle
from rgpipeline.model.param_tree import flatten, nest
from rgpipeline.model.params import random_params
from rgpipeline.model.sharding import device_put_for, mesh_of
from rgpipeline.records import Request, ResolvedSettings, Snapshot, draw_words
from rgpipeline.spec import Sampling
from tests.engine import reading
from tests.fake_grammars import FakeGrammars, Rule, WithGrammar

LAYOUTS = ((1, 1), (1, 8), (2, 4), (4, 2), (8, 1))  # data, model
SIZES = GriffinConfig(256, 64, 128, 8, 64, (ATTENTION, RECURRENT), window=16)
DEEP = GriffinConfig(256, 64, 128, 8, 64, cycle(GRIFFIN_CYCLE, 4), window=16)
SETTINGS = ResolvedSettings("float32", slots=16, prefill_chunk=16, steps_per_dispatch=None)
NEW = 8
ROWS = 18  # more than slots

# Half of the rows are greedy. What a sampler has for each token of the vocabulary is in it.
EVERYTHING: dict[str, Any] = {
    "max_tokens": NEW,
    "logprobs": 2,
    "frequency_penalty": 0.5,
    "logit_bias": {9: 2.0, 250: 1.0},
}


def request(row: int, snapshot: Snapshot | None = None) -> Request:
    """Every third prompt begins like the others, and goes on for more than a chunk."""
    rng = np.random.default_rng(row)
    head = np.arange(20, 40) if row % 3 == 0 else []
    tokens = np.concatenate([[2], head, rng.integers(3, 256, 1 + row)]).astype(np.int32)
    sampling = Sampling(temperature=row % 2, **EVERYTHING)
    return Request(row, tokens, sampling, draw_words(row, "row", 0), snapshot)


class Rows:
    """What was emitted of each row."""

    def __init__(self) -> None:
        self.tokens: dict[int, list[int]] = {}
        self.logprobs: dict[int, list[float]] = {}
        self.snapshots: dict[int, Snapshot | None] = {}
        self.finished: set[int] = set()

    def take(self, emissions: Any) -> None:
        for one in emissions:
            assert one.error is None
            self.tokens.setdefault(one.key, []).extend(one.token_ids.tolist())
            if one.logprobs is not None:
                told = (one.logprobs.sampled, one.logprobs.top)
                values = [value for array in told for value in np.ravel(array).tolist()]
                self.logprobs.setdefault(one.key, []).extend(values)
            self.snapshots[one.key] = one.snapshot
            if one.finish is not None:
                self.finished.add(one.key)

    def told(self) -> dict[str, Any]:
        rows = sorted(self.tokens)
        return {
            "tokens": [self.tokens[row] for row in rows],
            "logprobs": [self.logprobs[row] for row in rows],
        }


def engine(layout: tuple[int, int]) -> GriffinEngine:
    params = random_params(SIZES, 1, np.float32)
    mesh = mesh_of(jax.devices(), Chips(*layout))
    put = device_put_for(mesh)
    if put is not None:
        held = flatten(params)
        params = nest({path: put(path, np.asarray(held[path])) for path in held})
    return GriffinEngine(SIZES, params, SETTINGS, pack_tokens=32 * layout[0], mesh=mesh)


def all_at_once(engine: GriffinEngine) -> Rows:
    rows, loop = Rows(), Loop(engine, prefix_states=2, tuner=StepTuner(2))
    loop.submit(request(row) for row in range(ROWS))
    while not loop.idle:
        rows.take(loop.step())
    return rows


def interrupted(engine: GriffinEngine, then: GriffinEngine) -> Rows:
    """In another order, a few at a time; drained midway, and gone on with on `then`."""
    rows, loop = Rows(), Loop(engine, prefix_states=0, tuner=StepTuner(2))
    loop.submit(request(row) for row in reversed(range(ROWS)))
    for _ in range(4):
        rows.take(loop.step())
    rows.take(loop.drain())
    loop = Loop(then, prefix_states=2, tuner=StepTuner(2))
    for row in sorted(set(range(ROWS)) - rows.finished, key=lambda row: row * 7 % ROWS):
        loop.submit([request(row, rows.snapshots.get(row))])
        rows.take(loop.step())
    while not loop.idle:
        rows.take(loop.step())
    return rows


def scores(engine: GriffinEngine) -> list[list[float]]:
    """Log-probabilities of texts, and the mean of their hidden values."""
    texts = [request(row).tokens for row in range(5)]
    loop = Loop(engine)
    pooled = [TextRequest(index, text, pooling="mean") for index, text in enumerate(texts)]
    found = [*reading.scores(loop, texts), *reading.results(loop, pooled)]
    return [values.tolist() for values in found]


def structured(engine: GriffinEngine) -> list[list[int]]:
    """Tokens of rows of which every other one has a grammar: multiples of its number and one."""
    rows, loop = Rows(), Loop(engine, grammars=FakeGrammars(SIZES.vocab_size, engine.eos_ids))
    for row in range(ROWS):
        rule = Rule(multiple=row + 1, tokens=NEW) if row % 2 else None
        sampling = WithGrammar(temperature=row % 3, structured_outputs=rule, **EVERYTHING)
        loop.submit([replace(request(row), sampling=sampling)])
    while not loop.idle:
        rows.take(loop.step())
    return [rows.tokens[row] for row in range(ROWS)]


def collectives(layout: tuple[int, int]) -> dict[str, dict[str, int]]:
    """How many of each kind stand in the compiled programs of a model of four layers."""
    mesh = mesh_of(jax.devices(), Chips(*layout))
    worker = worker_programs(DEEP, SETTINGS, mesh, features=PLAIN)
    found = {}
    for name in ("decode", "prefill", "insert"):
        text = worker.programs[name].lower().compile().as_text()
        kinds = re.findall(
            r" ((?:all|collective|ragged)-[a-z-]*?|reduce-scatter)(?:-start)?\(", text
        )
        found[name] = dict(Counter(kinds))
    return found


def main(path: str) -> None:
    engines = {layout: engine(layout) for layout in LAYOUTS}
    told: dict[str, Any] = {}
    for layout, one in engines.items():
        told["x".join(map(str, layout))] = {
            "at once": all_at_once(one).told(),
            "interrupted": interrupted(one, one).told(),
            "scores": scores(one),
        }
    told["moved"] = [
        interrupted(engines[a], engines[b]).told() for a, b in (((1, 8), (4, 2)), ((2, 4), (1, 1)))
    ]
    told["structured"] = [structured(engines[layout]) for layout in ((1, 1), (2, 4))]
    told["collectives"] = {"2x4": collectives((2, 4)), "4x2": collectives((4, 2))}
    Path(path).write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
