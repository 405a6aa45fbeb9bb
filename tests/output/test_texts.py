"""Whole texts: segments joined, each sample once, those that go on last."""

import json
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.errors import OutputError
from rgpipeline.output import JobFolder, WholeText, whole_texts
from rgpipeline.plan import open_or_create
from rgpipeline.records import OutputRow
from rgpipeline.storage.store import open_store
from tests.published import done, failed, job_over, publish

ROWS = [{"prompt": f"p{k}"} for k in range(3)]


def piece(id: str, segment: int, text: str, last: bool = False, **fields: Any) -> OutputRow:
    finish = "length" if last else None
    return done(id, text, len(text), segment=segment, finish_reason=finish, **fields)


def texts_of(url: str, id: str | None = None) -> list[WholeText]:
    return list(whole_texts(JobFolder.open(url), id))


def texts(folder: Path, *answers: list[OutputRow], id: str | None = None) -> list[WholeText]:
    return texts_of(publish(job_over(folder, ROWS), lambda number, _: answers[number]), id)


def test_segments_are_joined_and_their_tokens_added(tmp_path: Path) -> None:
    long = [piece("a", 0, "In the "), piece("a", 1, "beginning "), piece("a", 2, "was", True)]
    first, *_ = texts(tmp_path, long, [done("b")], [done("c")])
    assert (first.text, first.completion_tokens) == ("In the beginning was", 20)
    assert (first.finish_reason, first.prompt_tokens, first.kept) == ("length", 2, {"prompt": "p0"})


@pytest.mark.parametrize("wanted", [1, 2])
def test_ids_and_log_probabilities_are_joined_too(tmp_path: Path, wanted: int) -> None:
    def logprobs(*numbers: float) -> Any:
        told = {"sampled": numbers, "top_ids": [[7]] * len(numbers)}
        return json.dumps(told) if wanted == 2 else list(numbers)

    long = [
        piece("a", 0, "xy", completion_ids=[1, 2], logprobs=logprobs(-1.0, -2.0)),
        piece("a", 1, "z", True, completion_ids=[3], logprobs=logprobs(-3.0)),
    ]
    sections = {"output": {"token_ids": True, "prefix": "rg_"}, "sampling": {"logprobs": wanted}}
    (found,) = texts_of(publish(job_over(tmp_path, ROWS[:1], **sections), lambda *_: long))
    assert (found.completion_ids, found.kept, found.prefix) == ([1, 2, 3], {"prompt": "p0"}, "rg_")
    plain = [-1.0, -2.0, -3.0]
    assert found.logprobs == (plain if wanted == 1 else {"sampled": plain, "top_ids": [[7]] * 3})


def test_an_input_column_called_as_one_that_the_job_does_not_write_is_kept(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "logprobs": 0.5}]
    (found,) = texts_of(publish(job_over(tmp_path, rows), lambda *_: [done("a")]))
    assert (found.kept, found.logprobs) == (rows[0], None)


def test_samples_of_a_row_are_texts_of_their_own(tmp_path: Path) -> None:
    both = [
        piece("a", 0, "one ", sample=0, samples=2),
        piece("a", 0, "eins", True, sample=1, samples=2),
        piece("a", 1, "two", True, sample=0, samples=2),
    ]
    found = texts(tmp_path, both, [done("b")], [done("c")])
    assert [(t.id, t.sample, t.text) for t in found[:2]] == [("a", 1, "eins"), ("a", 0, "one two")]


def test_texts_that_go_on_come_last_as_far_as_they_are(tmp_path: Path) -> None:
    found = texts(tmp_path, [piece("a", 0, "x"), piece("a", 1, "y")], [done("b")], [])
    assert [(t.id, t.text, t.finish_reason) for t in found] == [
        ("b", "yes", "stop"),
        ("a", "xy", None),
    ]


def test_a_row_given_up_does_not_go_on(tmp_path: Path) -> None:
    given_up = [
        piece("a", 0, "x", sample=0, samples=2),
        piece("a", 0, "y", sample=1, samples=2),
        OutputRow(0, "a", 0, 1, 1, finish_reason="error", error="bad"),
    ]
    found = texts(tmp_path, given_up, [failed("b")], [])
    assert [(t.id, t.sample, t.error) for t in found] == [
        ("a", 0, "bad"),
        ("b", 0, "'prompt' is null"),
    ]


def test_one_id_is_read_alone_and_may_be_two_rows(tmp_path: Path) -> None:
    found = texts(tmp_path, [done("a", "1")], [done("b", "2")], [done("a", "3")], id="a")
    assert [(t.row, t.text) for t in found] == [((0, 0), "1"), ((0, 2), "3")]


def test_an_id_that_is_not_there_gives_nothing(tmp_path: Path) -> None:
    assert texts(tmp_path, [done("a")], [done("b")], [done("c")], id="x") == []


def test_nothing_published_is_no_texts(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS)
    open_or_create(job, open_store(job.output.path))
    assert list(texts_of(job.output.path)) == []


def test_scores_are_no_texts(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS, task="score")  # type: ignore[arg-type]
    open_or_create(job, open_store(job.output.path))
    with pytest.raises(OutputError, match=r"task: score writes no texts; read its Parquet parts"):
        list(texts_of(job.output.path))


def test_segments_published_out_of_order_are_joined_in_theirs(tmp_path: Path) -> None:
    long = [piece("a", 0, "In the "), piece("a", 1, "beginning "), piece("a", 2, "was", True)]
    job = job_over(tmp_path, ROWS[:1])
    for some in ([long[0]], [long[1]], [long[2]]):
        url = publish(job, lambda _, __, some=some: some)
    (Path(url) / "part-00000-0001.parquet").unlink()
    assert [(text.text, text.finish_reason) for text in texts_of(url)] == [("In the ", None)]
    publish(job, lambda _, __: [long[1]])
    (text,) = texts_of(url)
    assert (text.text, text.completion_tokens) == ("In the beginning was", 20)
    assert text.finish_reason == "length"
