"""Rows of tables done by one engine in memory, for many callers at once."""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rgpipeline.errors import InputError, WorkerError
from rgpipeline.jobfile import parse_job
from rgpipeline.model.weights.model_source import resolve_source
from rgpipeline.records import OutputRow
from rgpipeline.worker.row_service import RowService
from rgpipeline.worker.running_sample import WHOLE, CompletionFormat
from rgpipeline.worker.table_rows import TableRows, plan_without_files
from rgpipeline.worker.worker_setup import open_prompts
from tests.fake_engine import FakeEngine
from tests.worker.planned_jobs import PROMPTS
from tests.worker.ten_tokens import expected, factory, write_tokenizer
from tests.worker.test_chat_turns import OPEN, TEMPLATE, done, plan, user


class Made:
    """A service and the tables that it does."""

    def __init__(
        self, folder: Path, engine: type[FakeEngine] = FakeEngine, **sections: Any
    ) -> None:
        whole: dict[str, Any] = {
            "model": {"weights": "fake", "tokenizer": write_tokenizer(folder)},
            "input": {"path": "-", "columns": {"prompt_ids": "ids"}},
            "output": {"path": "-", "token_ids": True},
            "sampling": {"max_tokens": 20},
        }
        for name, section in sections.items():
            mapping = isinstance(section, Mapping)
            whole[name] = {**whole.get(name, {}), **section} if mapping else section
        job = parse_job(whole, "job")
        source = resolve_source(job.model)
        opened = factory(engine, slots=4)(source, job.engine)
        prompts = open_prompts(job, plan_without_files(job), source)
        format = CompletionFormat(WHOLE, job.output.token_ids, "float32")
        self.rows = TableRows(job, prompts, opened.loop.check_tokens)
        self.service = RowService(opened.loop, prompts.tokenizer, format)

    def submit(self, table: pa.Table) -> "Future[list[OutputRow]]":
        call = self.service.next_call()
        return self.service.submit(call, *self.rows.make(call, table))

    def do(self, table: pa.Table) -> list[dict[str, Any]]:
        found = self.rows.output(table, self.submit(table).result())
        return list(found.to_pylist())


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    made = Made(tmp_path)
    yield made
    made.service.close()


def prompts(count: int) -> pa.Table:
    return pa.table({"n": range(count), "ids": [PROMPTS[k % len(PROMPTS)] for k in range(count)]})


def answers(rows: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    return [row["completion_ids"] for row in rows]


def test_every_row_of_every_call_is_answered_in_its_place(made: Made) -> None:
    table = prompts(60)
    pieces = [table.slice(start, 7) for start in range(0, 60, 7)]
    with ThreadPoolExecutor(len(pieces)) as pool:
        rows = [row for found in pool.map(made.do, pieces) for row in found]
    assert [row["n"] for row in rows] == list(range(60))
    assert answers(rows) == [expected(ids, 20) for ids in table["ids"].to_pylist()]


def test_calls_fill_the_slots_together(tmp_path: Path) -> None:
    class Counted(FakeEngine):
        made: Any = None

        def __init__(self, **options: int) -> None:
            super().__init__(**options)
            Counted.made = self

    made = Made(tmp_path, Counted, sampling={"ignore_eos": True, "max_tokens": 30})
    calls = [prompts(1) for _ in range(8)]
    for answer in [made.submit(table) for table in calls]:
        answer.result()
    # Of 30 tokens and 3 steps, one row takes 10 blocks; 8 rows alone would take 80.
    assert Counted.made.blocks < 40


def test_a_row_that_cannot_be_done_has_its_error_and_its_columns(made: Made) -> None:
    table = pa.table({"n": [0, 1, 2], "ids": [[1, 2], [], [1, 7]]})
    rows = made.do(table)
    assert [row["n"] for row in rows] == [0, 1, 2]
    assert rows[1]["error"] == "'ids' is an empty list; give at least one token id, such as BOS"
    assert rows[1]["finish_reason"] == "error"
    assert [row["error"] for row in (rows[0], rows[2])] == [None, None]


def test_samples_of_a_row_follow_each_other(tmp_path: Path) -> None:
    rows = Made(tmp_path, sampling={"n": 3}).do(prompts(2))
    assert [(row["n"], row["sample"]) for row in rows] == [(n, s) for n in (0, 1) for s in range(3)]


def test_a_table_without_rows_gives_the_same_columns(made: Made) -> None:
    some, none = prompts(1), prompts(0)
    found = [made.rows.output(table, made.submit(table).result()) for table in (some, none)]
    assert found[1].num_rows == 0
    assert found[0].schema.names == found[1].schema.names


def test_an_engine_that_fails_fails_every_call(tmp_path: Path) -> None:
    class Broken(FakeEngine):
        def decode(self, *_: Any) -> Any:
            raise RuntimeError("the device is lost")

    made = Made(tmp_path, Broken)
    for answer in [made.submit(prompts(3)) for _ in range(3)]:
        with pytest.raises(WorkerError, match=r"the engine failed: .*the device is lost"):
            answer.result()


def ids_of(made: Made, **columns: Any) -> list[str]:
    return [row["id"] for row in made.do(pa.table(columns))]


def test_a_column_called_id_names_the_rows(made: Made) -> None:
    assert ids_of(made, ids=[[1, 2], [1, 7]], id=["x", "y"]) == ["x", "y"]


def test_without_one_a_row_is_named_by_what_is_in_it(made: Made) -> None:
    first = ids_of(made, ids=[[1, 2], [1, 7], [1, 2]])
    assert first[0] == first[2] != first[1]
    assert ids_of(made, n=[7], ids=[[1, 7]]) == [first[1]]


def test_a_mapped_id_may_not_be_null_and_one_that_was_found_may(tmp_path: Path, made: Made) -> None:
    columns = {"ids": [[1, 2]], "id": pa.array([None], pa.string())}
    assert made.do(pa.table(columns))[0]["error"] is None
    mapped = Made(tmp_path, input={"columns": {"prompt_ids": "ids", "id": "id"}})
    assert "which names the rows, is null" in mapped.do(pa.table(columns))[0]["error"]


def test_a_missing_column_is_told_before_any_row_is_done(made: Made) -> None:
    with pytest.raises(InputError, match=r"columns\.prompt_ids: no column 'ids' .*mean 'idss'"):
        made.submit(pa.table({"idss": [[1]]}))


def test_an_input_column_may_not_have_a_name_of_ours(tmp_path: Path, made: Made) -> None:
    table = pa.table({"ids": [[1, 2]], "completion": ["mine"]})
    with pytest.raises(InputError, match=r"completion.*output\.prefix"):
        made.submit(table)
    prefixed = Made(tmp_path, output={"prefix": "rg_"}).do(table)[0]
    assert prefixed["completion"] == "mine"
    assert prefixed["rg_completion_ids"] == expected([1, 2], 20)


def test_kept_columns_are_those_that_the_job_keeps(tmp_path: Path) -> None:
    table = pa.table({"ids": [[1, 2]], "a": [1], "b": [2]})
    row = Made(tmp_path, output={"keep": ["b"]}).do(table)[0]
    assert {"ids", "a"}.isdisjoint(row)
    assert row["b"] == 2


def test_a_template_and_a_rows_own_sampling_are_used(tmp_path: Path) -> None:
    made = Made(
        tmp_path,
        input={"columns": {"sampling": "how"}, "template": "a{text}"},
    )
    rows = made.do(pa.table({"text": ["b", "b"], "how": ['{"max_tokens": 1}', None]}))
    assert [len(ids) for ids in answers(rows)] == [1, len(expected([1, 6], 20))]


def test_lists_that_ray_holds_as_tensors_are_lists(made: Made) -> None:
    kind = pa.fixed_shape_tensor(pa.int64(), [2])
    storage = pa.array([[1, 2]], kind.storage_type)
    table = pa.table({"ids": pa.ExtensionArray.from_storage(kind, storage)})
    assert isinstance(table["ids"][0].as_py(), np.ndarray | list)
    assert answers(made.do(table)) == [expected([1, 2], 20)]


def test_texts_are_scored_as_a_job_scores_them(tmp_path: Path) -> None:
    input = {"columns": {"prompt_ids": "ids", "completion": "text"}}
    made = Made(tmp_path, task="score", input=input, output={"token_ids": False})
    first, empty = made.do(pa.table({"ids": [[1, 2, 3], [1, 5]], "text": ["ab", ""]}))
    assert (first["tokens"], first["logprob"], first["prompt_tokens"]) == (1, -6.0, 3)
    assert "nothing to score" in empty["error"]


def test_a_chat_of_several_turns_is_answered_as_a_job_answers_it(tmp_path: Path) -> None:
    chats = [[user("a"), OPEN, user("b")], [user("b")]]
    expected_rows = done(plan(tmp_path / "job", chats))
    made = Made(
        tmp_path,
        model={"chat_template": TEMPLATE},
        input={"columns": {"messages": "chat"}},
        output={"messages": True},
    )
    rows = made.do(pa.table({"chat": [json.dumps(chat) for chat in chats]}))
    assert [row["messages"] for row in rows] == [row["messages"] for row in expected_rows]
