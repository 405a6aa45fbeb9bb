"""Questions on one long text: from its state, by the prefix cache of one job, and read anew each.

python -m bench.states --tokens 100000 --questions 40 --anew 40
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.own_loop import arguments, generate, in_turns, new_loop, run
from bench.workloads import BOS, FIRST_TOKEN, SEED
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.read_texts import ReadText
from rgpipeline.records import Emission, Request
from rgpipeline.spec import Sampling

_PREFIX_STATES = 16
_QUESTION = 24  # tokens


def measure(
    engine: GriffinEngine, tokens: int, questions: int, new: int, anew: int, rounds: int
) -> dict[str, Any]:
    """Seconds and CPU seconds of each way; see `main` for the arguments."""
    rng = np.random.default_rng(SEED)
    text = _tokens(rng, engine.vocab_size, tokens)
    text[0] = BOS
    asked = [_tokens(rng, engine.vocab_size, _QUESTION) for _ in range(questions)]
    whole = [_request(i, np.concatenate([text, tail]), new) for i, tail in enumerate(asked)]
    reading = Request(0, text, Sampling(max_tokens=0), (0, 0), keep_read=True)
    answers: dict[str, dict[Any, list[int]]] = {}

    def answer(way: str, requests: Sequence[Request], prefix_states: int) -> None:
        answers[way] = _joined(generate(new_loop(engine, prefix_states), requests))

    short = [_request(index, text[:3000], 2) for index in range(2)]
    answer("", short, _PREFIX_STATES)  # compiles
    (read,) = generate(new_loop(engine), [reading])
    start = read.read
    assert start is not None, "the request asks for it"
    following = [_following(start, index, tail, new) for index, tail in enumerate(asked)]
    answer("", following[:2], _PREFIX_STATES)  # compiles what uploads
    costs = in_turns(
        {
            "read_once": lambda: generate(new_loop(engine), [reading]),
            "from_state": lambda: answer("state", following, _PREFIX_STATES),
            "by_prefix_cache": lambda: answer("cache", whole, _PREFIX_STATES),
        },
        rounds,
    )
    costs |= in_turns({"anew": lambda: answer("anew", whole[:anew], 0)}, 1)
    read_s, state_s, cache_s, anew_s = (cost.seconds for cost in costs.values())
    read_cpu, state_cpu, cache_cpu, anew_cpu = (cost.cpu_s for cost in costs.values())
    return {
        "tokens": len(text),
        "questions": questions,
        "state_bytes": start.nbytes,
        **{f"{name}_s": cost.seconds for name, cost in costs.items()},
        **{f"{name}_cpu_s": cost.cpu_s for name, cost in costs.items()},
        "anew_measured": anew,
        "times_faster_than_anew": anew_s / anew * questions / state_s,
        "times_faster_than_anew_cpu": anew_cpu / anew * questions / state_cpu,
        "of_prefix_cache": cache_s / (read_s + state_s),
        "of_prefix_cache_cpu": cache_cpu / (read_cpu + state_cpu),
        "same_tokens": answers["state"] == answers["cache"]
        and all(answers["cache"][key] == found for key, found in answers["anew"].items()),
    }


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


def main() -> None:
    """Measures, and prints JSON."""
    parser = arguments("states", __doc__, slots=8)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--new", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--anew", type=int, default=40, help="questions whose text is read anew")
    run(parser, measure)


if __name__ == "__main__":
    main()
