"""Log-probabilities of given texts, in chunks like prefill."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ScoreProgram = Callable[[Any, NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]], Any]


def score_texts(
    program: ScoreProgram,
    init: Callable[[], Any],
    shape: tuple[int, int],
    texts: Sequence[NDArray[np.int32]],
    scored: Callable[[int, int], None],
) -> list[NDArray[np.float32]]:
    """Scores texts of any length with a program of one fixed shape (rows, tokens).

    Args:
      program: (state, tokens [r, t], targets [r, t], lengths [r]) -> (state, logprobs [r, t]).
      init: makes the state of `rows` empty sequences.
      shape: (rows, tokens).
      texts: token ids.
      scored: called with (text, tokens) whenever so many more tokens of a text are scored.

    Returns:
      float32 [len - 1] for each text: each token's log-probability given those before it.
    """
    rows, _ = shape
    # Texts of like length share a call, so that few rows are padding.
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    scores: list[NDArray[np.float32]] = [np.zeros((0,), np.float32)] * len(texts)
    for start in range(0, len(order), rows):
        group = order[start : start + rows]
        found = _score_group(program, init(), shape, texts, group, scored)
        for index, score in zip(group, found, strict=True):
            scores[index] = score
    return scores


def _score_group(
    program: ScoreProgram,
    state: Any,
    shape: tuple[int, int],
    texts: Sequence[NDArray[np.int32]],
    group: Sequence[int],
    scored: Callable[[int, int], None],
) -> list[NDArray[np.float32]]:
    rows, size = shape
    longest = max(len(texts[index]) for index in group) - 1
    pieces: list[NDArray[np.float32]] = []
    ahead: tuple[Any, NDArray[np.int32]] | None = None  # under way while the next is made ready
    for start in range(0, max(longest, 0), size):
        tokens, targets = np.zeros((2, rows, size), np.int32)
        lengths = np.zeros((rows,), np.int32)
        for row, index in enumerate(group):
            text = texts[index]
            inputs, wanted = text[:-1][start : start + size], text[1:][start : start + size]
            tokens[row, : len(inputs)], targets[row, : len(wanted)] = inputs, wanted
            lengths[row] = len(inputs)
        state, logprobs = program(state, tokens, targets, lengths)
        if ahead is not None:
            pieces.append(_read(*ahead, group, scored))
        ahead = logprobs, lengths
    if ahead is None:
        return [np.zeros((0,), np.float32) for _ in group]
    pieces.append(_read(*ahead, group, scored))
    whole = np.concatenate(pieces, axis=1)
    return [whole[row, : max(0, len(texts[i]) - 1)] for row, i in enumerate(group)]


def _read(
    logprobs: Any,
    lengths: NDArray[np.int32],
    group: Sequence[int],
    scored: Callable[[int, int], None],
) -> NDArray[np.float32]:
    """Waits for one call's scores, and tells of them."""
    found = np.asarray(logprobs)
    for index, length in zip(group, lengths, strict=False):
        if length:
            scored(index, int(length))
    return found
