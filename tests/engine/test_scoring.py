"""Scoring in chunks: every call tells what it has scored, once it is done."""

import numpy as np

from rgpipeline.engine.scoring import score_texts


def program(state, tokens, targets, lengths):
    """Each target's score is minus the number of calls before."""
    return state + 1, np.full(tokens.shape, -state, np.float32)


def scored(texts, shape=(2, 4)):
    told = []
    scores = score_texts(
        program,
        lambda: 0,
        shape,
        [np.array(t, np.int32) for t in texts],
        lambda *of: told.append(of),
    )
    return scores, told


def test_every_piece_of_a_long_text_is_told_of():
    _, told = scored([range(11)])
    assert told == [(0, 4), (0, 4), (0, 2)]


def test_each_text_of_a_call_is_told_of_while_it_lasts():
    _, told = scored([[1, 2], range(6)])
    assert told == [(1, 4), (0, 1), (1, 1)]


def test_pieces_come_in_order():
    (score,), _ = scored([range(11)])
    assert score.tolist() == [0.0] * 4 + [-1.0] * 4 + [-2.0] * 2


def test_texts_of_one_token_have_no_scores():
    scores, told = scored([[1], [2]])
    assert [len(score) for score in scores] == [0, 0]
    assert told == []
