"""This engine's loop in the bench's own process, and the cost of several ways to do the same.

Modules that compare such ways are commands, too: `arguments` and `run` are what they share.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from bench.peers.exchange import Setup
from bench.peers.ours import Ours
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.step_tuner import StepTuner
from rgpipeline.engine.text_requests import TextRequest, TextResult
from rgpipeline.records import Emission, Request

Key = TypeVar("Key")
_STEPS = 8  # of a decode call


class Cost(NamedTuple):
    """Of the whole process: a busy machine changes the CPU time less than the clock's."""

    seconds: float
    cpu_s: float


def open_own(model: str, slots: int) -> GriffinEngine:
    """The engine with the settings that `auto` resolves to, in float32."""
    return Ours(model).engine(Setup("float32", slots))


def arguments(name: str, described: str | None, slots: int = 64) -> argparse.ArgumentParser:
    """What every such command may be asked; it adds its own."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=described)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--slots", type=int, default=slots)
    parser.add_argument("--rounds", type=int, default=3, help="of each; the fastest counts")
    return parser


def run(parser: argparse.ArgumentParser, measure: Callable[..., Mapping[str, Any]]) -> None:
    """Measures an engine, with the other arguments by their names, and prints JSON."""
    asked = vars(parser.parse_args())
    engine = open_own(asked.pop("model"), asked.pop("slots"))
    print(json.dumps(measure(engine, **asked), indent=1))


def new_loop(engine: GriffinEngine, prefix_states: int = 0) -> Loop[Any, Any]:
    """A loop whose blocks have a fixed number of steps."""
    return Loop(engine, prefix_states=prefix_states, tuner=StepTuner(_STEPS))


def generate(loop: Loop[Any, Any], requests: Sequence[Request]) -> list[Emission]:
    """What becomes of the requests."""
    loop.submit(requests)
    emissions: list[Emission] = []
    while not loop.idle:
        emissions += loop.step()
    return emissions


def read_texts(loop: Loop[Any, Any], texts: Sequence[TextRequest]) -> list[TextResult]:
    """The whole result of each text, in the order in which they end."""
    loop.submit_texts(texts)
    results: list[TextResult] = []
    while loop.reading_texts:
        results += [result for result in loop.text_step() if result.whole]
    return results


def in_turns(ways: Mapping[Key, Callable[[], object]], rounds: int) -> dict[Key, Cost]:
    """The least cost of each way in so many rounds. They take turns, since others disturb."""
    costs: dict[Key, list[Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = (time.perf_counter(), time.process_time())
            way()
            costs[name].append(Cost(time.perf_counter() - start[0], time.process_time() - start[1]))
    return {name: Cost(*map(min, zip(*found, strict=True))) for name, found in costs.items()}
