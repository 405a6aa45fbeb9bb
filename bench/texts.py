"""Texts that are embedded and scored, compared with the same tokens read as prompts.

python -m bench.texts --model FOLDER

The texts are whole chunks and one token, of which prefill and scores read all but the last one, so
`embed` gets them without it. Then all read the same tokens. `score` scores a completion at the end
of each text, which is cut before it; all others read in calls of the same shape.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.load import full_packs
from bench.own_loop import arguments, generate, in_turns, new_loop, read_texts, run
from bench.workloads import BOS, FIRST_TOKEN, SEED
from rgpipeline.engine.api import PrefillPack
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.programs.score_head import DeviceHidden
from rgpipeline.engine.text_requests import TextRequest
from rgpipeline.records import Request
from rgpipeline.spec import Sampling

_CHUNKS = (1, 2, 3)  # of the texts, in turn
_COMPLETION = 32  # tokens, at the end of a text
KINDS = ("prefill", "embed", "score", "score whole texts")

Texts = Sequence[NDArray[np.int32]]


def measure(engine: GriffinEngine, texts: int, rounds: int) -> dict[str, Any]:
    """Tokens a second of each kind; those of its programs alone; and ratios."""
    chunk = engine.settings.prefill_chunk
    made = _texts(engine, [_CHUNKS[i % len(_CHUNKS)] * chunk + 1 for i in range(texts)])
    tokens = sum(len(text) - 1 for text in made)
    packs = full_packs(engine, chunk * sum(_CHUNKS) // len(_CHUNKS))
    ways: dict[tuple[str, bool], Callable[[], object]] = {}
    for kind in KINDS:
        _run(engine, kind, made[:1])  # compiles
        ways[kind, False] = partial(_run, engine, kind, made)
        ways[kind, True] = partial(_programs, engine, kind, packs)
    costs = in_turns(ways, rounds)
    packed = sum(int(pack.lengths.sum()) for pack in packs)
    whole = costs["prefill", False]
    found = {}
    for kind in KINDS:
        cost, alone = costs[kind, False], costs[kind, True]
        found[kind] = {
            "tokens_per_s": tokens / cost.seconds,
            "of_prefill": whole.seconds / cost.seconds,
            "of_prefill_cpu": whole.cpu_s / cost.cpu_s,
            "of_programs": (tokens / cost.seconds) / (packed / alone.seconds),
            "of_programs_cpu": (tokens / cost.cpu_s) / (packed / alone.cpu_s),
        }
    return {"texts": texts, "tokens": tokens, "kinds": found}


def _texts(engine: GriffinEngine, lengths: Sequence[int]) -> Texts:
    rng = np.random.default_rng(SEED)
    drawn = (rng.integers(FIRST_TOKEN, engine.vocab_size, length - 1) for length in lengths)
    return [np.asarray([BOS, *tokens], np.int32) for tokens in drawn]


def _run(engine: GriffinEngine, kind: str, texts: Texts) -> None:
    """Through a loop, without the prefix cache."""
    loop = new_loop(engine)
    if kind == "prefill":
        nothing = Sampling(max_tokens=0)
        generate(loop, [Request(i, text, nothing, (0, i)) for i, text in enumerate(texts)])
    elif kind == "embed":
        cut = [text[:-1] for text in texts]
        read_texts(loop, [TextRequest(i, t, len(t), pooling="mean") for i, t in enumerate(cut)])
    else:
        read_texts(loop, [TextRequest(i, t, _first(kind, len(t))) for i, t in enumerate(texts)])


def _first(kind: str, tokens: int) -> int:
    """The first token that is scored of so many, which one token precedes at least."""
    return 1 if kind == "score whole texts" else max(1, tokens - _COMPLETION)


def _programs(engine: GriffinEngine, kind: str, packs: Sequence[PrefillPack]) -> None:
    """The device's work alone, with full packs; results are read one call late, as in the loop."""
    if kind == "prefill":
        buffer = engine.init_prefill_buffer()
        for pack in packs:
            buffer = engine.prefill(buffer, pack)
        engine.wait(buffer)
        return
    buffer, previous = engine.init_text_buffer(), None
    for index, pack in enumerate(packs):
        ends = index + 1 == len(packs) or bool(packs[index + 1].fresh.any())
        if kind == "score" and not ends:  # nothing of it is scored: as in the loop
            buffer = engine.prefill(buffer, pack)
            continue
        buffer, hidden = engine.read(buffer, pack)
        pending = _asked(kind, hidden, pack)
        if previous is not None:
            previous.read()
        previous = pending
    if previous is not None:
        previous.read()


def _asked(kind: str, hidden: DeviceHidden, pack: PrefillPack) -> Any:
    """What is asked of a pack in which anything is scored or pooled."""
    if kind == "embed":
        return hidden.sums(np.ones(pack.tokens.shape, np.bool_))
    targets = pack.tokens.copy()
    targets[:, : _first(kind, targets.shape[1] + 1) - 1] = -1
    return hidden.log_probabilities(targets)


def main() -> None:
    """Measures, and prints JSON."""
    parser = arguments("texts", __doc__)
    parser.add_argument("--texts", type=int, default=64)
    run(parser, measure)


if __name__ == "__main__":
    main()
