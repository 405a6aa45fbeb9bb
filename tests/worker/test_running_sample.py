"""A sample's tokens to rows: nothing depends on how the tokens came."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.records import Emission, OutputRow, Request, SampleKey, Snapshot, TokenLogprobs
from rgpipeline.spec import Sampling
from rgpipeline.tasks.task import RowLabel, SequenceWork
from rgpipeline.text.completion import CompletionText
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.worker.running_sample import CompletionFormat, RunningSample
from rgpipeline.worker.shared import ActiveAssignment

KEY = SampleKey(0, 0, 0)
ROW = RowLabel(0, 0, "id", "file, row 0")
TOKENIZER = Tokenizer.load(str(Path(__file__).parent.parent / "golden" / "tokenizer"))
VOCABULARY = TOKENIZER.vocab_size


def running_sample(
    format: CompletionFormat, sampling: Sampling, notes=None, generated: int = 0
) -> RunningSample:
    snapshot = Snapshot({}, generated) if notes else None
    request = Request(KEY, np.asarray([1, 5], np.int32), sampling, (0, 0), snapshot)
    work = SequenceWork(ROW, 0, request, json.loads(json.dumps(notes)))
    return RunningSample(ActiveAssignment(None), work, TOKENIZER, format)  # type: ignore[arg-type]


def test_a_sample_whose_text_cannot_be_made_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: CompletionText, ids: object) -> None:
        raise ValueError("no such piece")

    monkeypatch.setattr(CompletionText, "push", failing)
    one = running_sample(CompletionFormat(100, False, "float32"), Sampling())
    (row,) = one.take(emission([4, 5], 0))
    assert (row.error, one.finished) == ("file, row 0: ValueError: no such piece", True)


def emission(ids: list[int], wanted: int, finish=None) -> Emission:
    array = np.asarray(ids, np.int32)
    sampled = -np.sqrt(array + 0.1).astype(np.float32)
    top = np.repeat(sampled[:, None], wanted if wanted > 1 else 0, axis=1)
    logprobs = TokenLogprobs(sampled, top.astype(np.int32), top) if wanted else None
    return Emission(KEY, array, finish, logprobs)


def rows_of(
    ids: list[int], cuts: list[int], format: CompletionFormat, sampling: Sampling
) -> list[OutputRow]:
    """The rows of a sequence whose tokens come in pieces; a negative cut is an interruption."""
    one = running_sample(format, sampling)
    rows: list[OutputRow] = []
    places = sorted({abs(cut) for cut in cuts if abs(cut) < len(ids)})
    for start, stop in zip([0, *places], [*places, len(ids)], strict=True):
        last = stop == len(ids)
        rows += one.take(emission(ids[start:stop], sampling.logprobs, "length" if last else None))
        if one.finished:
            return rows
        if -stop in cuts:
            one = running_sample(format, sampling, one.notes(), stop)
    return rows


texts = st.lists(st.integers(4, VOCABULARY - 1), max_size=80)


@given(
    ids=texts,
    cuts=st.lists(st.integers(-80, 80), max_size=12),
    segment=st.integers(1, 30),
    stop=st.integers(0, 79),
    length=st.integers(0, 3),
    min_tokens=st.integers(0, 20),
    logprobs=st.integers(0, 2),
)
@settings(deadline=None, max_examples=300)
def test_rows_depend_on_the_tokens_alone(ids, cuts, segment, stop, length, min_tokens, logprobs):
    text = TOKENIZER.decode(ids)
    stops = [text[stop : stop + length], "zz"] if text[stop : stop + length] else []
    sampling = Sampling(stop=stops, min_tokens=min_tokens, logprobs=logprobs)
    format = CompletionFormat(segment, token_ids=True, dtype="float32")
    one_by_one = rows_of(ids, list(range(80)), format, sampling)
    assert rows_of(ids, cuts, format, sampling) == one_by_one


@given(ids=texts, segment=st.integers(1, 30))
@settings(deadline=None, max_examples=100)
def test_segments_join_to_the_whole(ids, segment):
    rows = rows_of(ids, [], CompletionFormat(segment, token_ids=True, dtype="float32"), Sampling())
    assert "".join(row.completion for row in rows) == TOKENIZER.decode(ids)
    assert [token for row in rows for token in row.completion_ids] == ids
    assert [row.completion_tokens for row in rows[:-1]] == [segment] * (len(rows) - 1)
    assert [row.segment for row in rows] == list(range(len(rows)))
    assert [row.finish_reason for row in rows] == [None] * (len(rows) - 1) + ["length"]


def test_a_sequence_that_ends_at_a_border_has_no_empty_segment_after_it():
    one = running_sample(CompletionFormat(4, token_ids=False, dtype="float32"), Sampling())
    assert one.take(emission([5, 6, 7, 8], 0)) == []
    (row,) = one.take(emission([], 0, "stop"))
    assert (row.segment, row.completion_tokens, row.finish_reason) == (0, 4, "stop")


def test_a_stop_string_ends_the_sequence_before_the_engine_does():
    ids = TOKENIZER.encode("one two three", bos=False)
    one = running_sample(
        CompletionFormat(100, token_ids=True, dtype="float32"), Sampling(stop="two")
    )
    (row,) = one.take(emission(ids, 0))
    assert one.finished
    assert (row.completion, row.finish_reason) == ("one ", "stop")
    assert TOKENIZER.decode(row.completion_ids).startswith("one two")


def test_an_error_is_told_with_the_row_it_belongs_to():
    one = running_sample(CompletionFormat(4, token_ids=True, dtype="float32"), Sampling())
    (row,) = one.take(Emission(KEY, np.zeros(0, np.int32), "error", error="too bad"))
    assert (row.error, row.finish_reason) == ("file, row 0: too bad", "error")
    assert (row.completion, row.completion_ids) == (None, None)


def test_log_probabilities_for_openais_answers_have_the_tokens_texts():
    format = CompletionFormat(1, token_ids=False, dtype="float32", token_texts=True)
    one = running_sample(format, Sampling(logprobs=2))
    byte, end = TOKENIZER.piece_to_id("<0xC3>"), TOKENIZER.eos_id
    (word,) = TOKENIZER.encode("the", bos=False)[:1]
    told = TokenLogprobs(
        np.float32([-0.5, -0.1]),
        np.int32([[byte, 5000], [end, byte]]),
        np.float32([[-0.5, -2], [-0.1, -3]]),
    )
    first, last = one.take(Emission(KEY, np.int32([word, end]), "stop", told))
    assert json.loads(first.logprobs)["tokens"] == [TOKENIZER.piece(word)]
    assert json.loads(first.logprobs)["top_tokens"] == [["bytes:\\xc3", "token_id:5000"]]
    assert json.loads(last.logprobs)["tokens"] == ["<eos>"]


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        (0, None),
        (1, [-0.5, -0.1]),
        (2, '{"sampled":[-0.5,-0.1],"top_ids":[[7,8],[9,7]],"top":[[-0.5,-2.0],[-0.1,-3.0]]}'),
    ],
)
def test_log_probabilities_are_numbers_or_json(wanted, value):
    one = running_sample(
        CompletionFormat(9, token_ids=False, dtype="float32"), Sampling(logprobs=wanted)
    )
    told = TokenLogprobs(
        np.float32([-0.5, -0.1]),
        np.int32([[7, 8], [9, 7]])[:, : wanted if wanted > 1 else 0],
        np.float32([[-0.5, -2], [-0.1, -3]])[:, : wanted if wanted > 1 else 0],
    )
    given = Emission(KEY, np.int32([7, 9]), "length", told if wanted else None)
    (row,) = one.take(given)
    assert row.logprobs == value
