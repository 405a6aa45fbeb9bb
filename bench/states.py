"""Questions on one long text: from its state, by the prefix cache of one job, and read anew each.

python -m bench.states --tokens 100000 --questions 40 --anew 40
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.workloads import BOS, FIRST_TOKEN, SEED
from rgpipeline.engine.factory import open_engine
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.step_tuner import StepTuner
from rgpipeline.model.weights.model_source import resolve_source
from rgpipeline.read_texts import ReadText
from rgpipeline.records import Emission, Request
from rgpipeline.spec import EngineSpec, ModelSpec, Sampling

_SLOTS, _PREFIX_STATES, _STEPS = 8, 16, 8
_QUESTION = 24  # tokens


def main() -> None:
    """Measures, and prints JSON."""
    asked = _arguments()
    engine = open_engine(
        resolve_source(ModelSpec(weights=asked.model)), EngineSpec(slots=_SLOTS)
    ).loop._engine
    rng = np.random.default_rng(SEED)
    text = _tokens(rng, engine.vocab_size, asked.tokens)
    text[0] = BOS
    questions = [_tokens(rng, engine.vocab_size, _QUESTION) for _ in range(asked.questions)]

    def timed(requests: Sequence[Request], prefix_states: int) -> tuple[float, list[Emission]]:
        loop = Loop(engine, prefix_states=prefix_states, tuner=StepTuner(_STEPS))
        loop.submit(requests)
        start, emissions = time.perf_counter(), list[Emission]()
        while not loop.idle:
            emissions += loop.step()
        return time.perf_counter() - start, emissions

    def whole(count: int) -> list[Request]:
        texts = (np.concatenate([text, question]) for question in questions[:count])
        return [_request(index, tokens, asked.new) for index, tokens in enumerate(texts)]

    reading = Request(0, text, Sampling(max_tokens=0), (0, 0), keep_read=True)
    timed([_request(0, text[:3000], 2), _request(1, text[:3000], 2)], _PREFIX_STATES)  # compiles
    _, (read,) = timed([reading], 0)
    start = read.read
    assert start is not None
    following = [_following(start, index, q, asked.new) for index, q in enumerate(questions)]
    timed(following[:2], _PREFIX_STATES)  # compiles what uploads
    read_s = state_s = cache_s = math.inf
    for _ in range(asked.rounds):  # in turns, since other processes disturb
        read_s = min(read_s, timed([reading], 0)[0])
        seconds, by_state = timed(following, _PREFIX_STATES)
        state_s = min(state_s, seconds)
        seconds, by_cache = timed(whole(len(questions)), _PREFIX_STATES)
        cache_s = min(cache_s, seconds)
    anew_s, _ = timed(whole(asked.anew), 0)
    each = anew_s / asked.anew
    found = {
        "tokens": len(text),
        "questions": len(questions),
        "state_bytes": start.nbytes,
        "read_once_s": read_s,
        "from_state_s": state_s,
        "read_once_and_from_state_s": read_s + state_s,
        "by_prefix_cache_s": cache_s,
        "anew_s_each": each,
        "anew_measured": asked.anew,
        "times_faster_than_anew": each * len(questions) / state_s,
        "of_prefix_cache": cache_s / (read_s + state_s),
        "same_tokens": _joined(by_state) == _joined(by_cache),
    }
    print(json.dumps(found, indent=1))


def _tokens(rng: np.random.Generator, vocab: int, count: int) -> NDArray[np.int32]:
    return rng.integers(FIRST_TOKEN, vocab, count).astype(np.int32)


def _request(key: int, tokens: NDArray[np.int32], new: int, start: Any = None) -> Request:
    sampling = Sampling(max_tokens=new, temperature=0, ignore_eos=True)
    return Request(key, tokens, sampling, (0, key), start=start)


def _following(start: ReadText, key: int, question: NDArray[np.int32], new: int) -> Request:
    return _request(key, start.continued(question).tail, new, start)


def _joined(emissions: Sequence[Emission]) -> dict[Any, list[int]]:
    joined: dict[Any, list[int]] = {}
    for emission in emissions:
        joined.setdefault(emission.key, []).extend(emission.token_ids.tolist())
    return joined


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.states", description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--new", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--anew", type=int, default=40, help="questions whose text is read anew")
    parser.add_argument("--rounds", type=int, default=3, help="of each; the fastest counts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
