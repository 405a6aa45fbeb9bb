"""Texts that a loop reads."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.loop import Loop
from rgpipeline.engine.text_requests import TextRequest


def results(loop: Loop, requests: Sequence[TextRequest]) -> list[NDArray[np.float32]]:
    """The values of each text, whose keys are its indices."""
    found = {}
    loop.submit_texts(requests)
    while loop.reading_texts:
        found |= {one.key: one.values for one in loop.text_step() if one.whole}
    return [found[index] for index in range(len(requests))]


def scores(loop: Loop, texts: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
    """Log-probability of each token given those before it, [n - 1] for each text."""
    return results(loop, [TextRequest(index, text) for index, text in enumerate(texts)])
