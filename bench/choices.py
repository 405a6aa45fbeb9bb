"""Completions of one prompt that are scored together, compared with one pair after the other.

python -m bench.choices --model FOLDER
"""

from functools import partial
from typing import Any

import numpy as np

from bench.own_loop import arguments, in_turns, new_loop, read_texts, run
from bench.workloads import BOS, FIRST_TOKEN, SEED
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.text_requests import TextRequest

_CHOICES, _TOKENS = 4, 8


def measure(engine: GriffinEngine, prompts: int, length: int, rounds: int) -> dict[str, Any]:
    """How many times as fast choices are as their pairs: a call for each, and all in one job."""
    choices = [_request(engine, index, length) for index in range(prompts)]
    pairs = [pair for one in choices for pair in one.completions()]
    job = [TextRequest(i, pair.tokens, pair.first) for i, pair in enumerate(pairs)]
    together, apart = _scores(engine, choices[:1], 1), _scores(engine, pairs[:_CHOICES], 1)
    costs = in_turns(
        {
            "choices": partial(_scores, engine, choices, 1),
            "pairs": partial(_scores, engine, pairs, 1),
            "choices_in_a_job": partial(_scores, engine, choices, len(choices)),
            "pairs_in_a_job": partial(_scores, engine, job, len(job)),
        },
        rounds,
    )
    found = {f"{name}_s": cost.seconds for name, cost in costs.items()}
    for name in ("", "_in_a_job"):
        many, one = costs[f"pairs{name}"], costs[f"choices{name}"]
        found[f"times{name}"] = many.seconds / one.seconds
        found[f"times{name}_cpu"] = many.cpu_s / one.cpu_s
    return {
        **found,
        "prompts": prompts,
        "prompt_tokens": length,
        "choices": _CHOICES,
        "choice_tokens": _TOKENS,
        "same_scores": together == apart,
    }


def _request(engine: GriffinEngine, key: int, length: int) -> TextRequest:
    rng = np.random.default_rng((SEED, key))
    drawn = rng.integers(FIRST_TOKEN, engine.vocab_size, length + _CHOICES * _TOKENS)
    prompt, *choices = np.split(drawn.astype(np.int32), range(length, len(drawn), _TOKENS))
    prompt[0] = BOS
    return TextRequest(key, np.concatenate([prompt, choices[0]]), length, tuple(choices[1:]))


def _scores(engine: GriffinEngine, texts: list[TextRequest], at_once: int) -> list[float]:
    """All log-probabilities; `at_once`: texts that the loop is given at a time."""
    loop, found = new_loop(engine), dict[int, list[float]]()
    for first in range(0, len(texts), at_once):
        for offset, result in enumerate(read_texts(loop, texts[first : first + at_once])):
            assert result.values is not None, "only whole results are returned"
            found[first + offset] = result.values.tolist()
    return [value for index in sorted(found) for value in found[index]]


def main() -> None:
    """Measures, and prints JSON."""
    parser = arguments("choices", __doc__)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--length", type=int, default=512, help="tokens of a prompt")
    run(parser, measure)


if __name__ == "__main__":
    main()
