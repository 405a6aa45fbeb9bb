"""One call's texts to score, from their tokens to their log-probabilities."""

import time
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.numbers import NO_NUMBERS, without_numbers
from rgpipeline.errors import RowError
from rgpipeline.generator.progress import Progress, Watch
from rgpipeline.generator.shared_loop import SharedLoop
from rgpipeline.records import ScoreRequest


def scores(
    loop: SharedLoop, texts: Sequence[NDArray[np.int32]], watch: Watch = lambda _: None
) -> list[NDArray[np.float32]]:
    """Log-probabilities float32 [len - 1] of each text.

    Every call to the device is a turn of its own, so other threads' sequences go on meanwhile;
    texts of several threads are scored one thread after the other.

    Raises RowError for a text whose logits are not finite.
    """
    began, tokens = time.monotonic(), 0
    call = object()  # keeps these keys apart from those of other calls
    left: dict[Hashable, ScoreRequest] = {
        (call, index): ScoreRequest((call, index), text) for index, text in enumerate(texts)
    }
    found: dict[Hashable, NDArray[np.float32]] = {}
    order = list(left)
    loop.opened()
    with loop.scoring:
        try:
            while left:
                with loop.alone() as own:
                    if not own.scoring:  # the beginning, or others' step was broken off
                        own.submit_texts(left.values())
                    news = own.score_step()
                for scored in news:
                    if scored.key not in left:
                        continue  # of a call that was broken off
                    tokens += scored.tokens
                    if scored.logprobs is not None:
                        found[scored.key] = scored.logprobs
                        del left[scored.key]
                if news:
                    watch(Progress(len(found), len(order), tokens, time.monotonic() - began))
        finally:
            if left and loop.usable:
                with loop.alone() as own:
                    for key in left:
                        own.cancel(key)
    for index, key in enumerate(order):
        if without_numbers(found[key]):
            raise RowError(f"prompt {index}: {NO_NUMBERS}")
    return [found[key] for key in order]
