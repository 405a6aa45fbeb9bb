"""A worker: rows in, each published once, whatever else happens."""

import errno
import re
from threading import Event

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rgpipeline.errors import StoreError
from rgpipeline.records import Assignment, OutputRow, ShardDone
from rgpipeline.storage.retries import Retry
from rgpipeline.storage.store import RetryingStore
from rgpipeline.worker.shared import WorkerPolicy
from tests.fake_engine import FakeEngine
from tests.worker.planned_jobs import (
    PATIENCE_S,
    PROMPTS,
    Instead,
    finish,
    plan_job,
    running,
    until,
)
from tests.worker.ten_tokens import expected, factory

ENDLESS = {"max_tokens": None, "ignore_eos": True}


class Counted(FakeEngine):
    """A fake engine that is kept for looking at."""

    made: list["Counted"] = []  # noqa: RUF012 - on purpose the class's

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.made.append(self)


@pytest.fixture
def engines():
    Counted.made.clear()
    return Counted.made


def given_prompts(folder, count=10, **sections):
    return plan_job(folder, [{"ids": PROMPTS[n % len(PROMPTS)]} for n in range(count)], **sections)


def test_every_row_is_published_once_with_its_answer(tmp_path):
    given = given_prompts(tmp_path)
    report = finish(given.worker(), given.assignments)
    rows = given.rows()
    assert [row["n"] for row in rows] == list(range(10))
    assert [row["completion_ids"] for row in rows] == [expected(r["ids"], 20) for r in rows]
    assert report.finished == tuple(ShardDone(s, n, 0) for s, n in ((0, 4), (1, 4), (2, 2)))
    assert (report.rows_done, report.rows_failed) == (10, 0)


def test_ids_alone_need_no_tokenizer(tmp_path):
    given = given_prompts(tmp_path, model={"weights": str(tmp_path)})
    finish(given.worker(), given.assignments)
    rows = given.rows()
    assert [row["completion_ids"] for row in rows] == [expected(r["ids"], 20) for r in rows]
    assert {(row["completion"], row["error"]) for row in rows} == {(None, None)}


@pytest.mark.parametrize(
    "sections", [{"output": {"token_ids": False}}, {"sampling": {"stop": "x"}}]
)
def test_who_wants_texts_needs_one(tmp_path, sections):
    given = given_prompts(tmp_path, model={"weights": str(tmp_path)}, **sections)
    report = finish(given.worker(), given.assignments)
    assert report.fault == "user"
    assert "no tokenizer.model or tokenizer.json there" in (report.error or "")


def test_tokens_are_counted_as_they_are_published(tmp_path):
    given = given_prompts(tmp_path)
    report = finish(given.worker(), given.assignments)
    rows = given.rows()
    assert report.prompt_tokens == sum(row["prompt_tokens"] for row in rows)
    assert report.completion_tokens == sum(row["completion_tokens"] for row in rows)
    positions = [k for k in report.details if k.endswith("_tokens")]
    assert 0 < sum(report.details[k] for k in positions) <= report.completion_tokens
    assert report.details["prefill_s"] > 0
    assert report.details["decode_s"] > 0


def test_samples_of_a_row_are_rows_of_their_own(tmp_path):
    given = given_prompts(tmp_path, 3, sampling={"n": 3})
    finish(given.worker(), given.assignments)
    assert [(row["n"], row["sample"]) for row in given.rows()] == [
        (n, sample) for n in range(3) for sample in range(3)
    ]


def test_a_row_may_have_sampling_of_its_own(tmp_path):
    rows = [{"ids": [1, 2], "how": how} for how in (None, '{"max_tokens": 2}', '{"n": 2}')]
    columns = {"prompt_ids": "ids", "sampling": "how"}
    given = plan_job(tmp_path, rows, columns=columns, sampling={"ignore_eos": True})
    finish(given.worker(), given.assignments)
    lengths = [(row["n"], row["completion_tokens"]) for row in given.rows()]
    assert lengths == [(0, 20), (1, 2), (2, 20), (2, 20)]


def test_rows_of_several_shards_share_the_slots(tmp_path, engines):
    class Patient(Counted):
        """Begins when all rows are ready, so that only the slots limit it."""

        def decode(self, state, features, steps):
            until(lambda: worker._threads[1].progress_counter >= 12)
            return super().decode(state, features, steps)

    given = given_prompts(
        tmp_path, 12, shard_rows=1, sampling={"max_tokens": 30, "ignore_eos": True}
    )
    worker = given.worker(open_engine=factory(Patient, slots=4, steps=3))
    finish(worker, given.assignments)
    needed = 12 * 30 / 3 / 4
    assert engines[0].blocks < 2 * needed  # one shard after the other takes four times as many


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"ids": None}, "in.jsonl, row 1: 'ids' is null"),
        ({"ids": []}, "in.jsonl, row 1: 'ids' is an empty list"),
        ({"ids": [1, 70_000]}, "in.jsonl, row 1: token id 70000 is outside the model's vocabulary"),
        ({"ids": [2], "how": '{"temprature": 1}'}, "row 1: how.temprature: unknown key"),
        ({"ids": [2], "how": '{"logit_bias": {"77000": 1}}'}, "row 1: logit_bias names token id"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_done_costs_only_itself(tmp_path, row, told):
    columns = {"prompt_ids": "ids", "sampling": "how"}
    rows = [{"ids": [1, 2], "how": None}, row, {"ids": [1, 3], "how": None}]
    given = plan_job(tmp_path, rows, columns=columns)
    report = finish(given.worker(), given.assignments)
    first, bad, last = given.rows()
    assert told in bad["error"]
    assert (bad["completion"], bad["finish_reason"], bad["id"]) == (None, "error", "in.jsonl#1")
    assert [r["completion_ids"] for r in (first, last)] == [
        expected([1, 2], 20),
        expected([1, 3], 20),
    ]
    assert (report.rows_done, report.rows_failed) == (2, 1)
    assert report.finished == (ShardDone(0, 3, 1),)


def test_a_line_that_cannot_be_read_is_a_row_with_its_fault(tmp_path):
    given = plan_job(tmp_path, [{"ids": [1, 2]}, "{nonsense", {"ids": [1, 3]}])
    finish(given.worker(), given.assignments)
    (bad,) = [row for row in given.rows() if row["error"]]
    assert bad["error"].startswith("in.jsonl, row 1: ")
    assert bad["id"] == "in.jsonl#1"


def test_a_row_that_cannot_be_read_whole_keeps_its_name(tmp_path):
    rows = [{"ids": [1, 2], "name": "a", "k": "x"}, {"ids": [1, 3], "name": "b", "k": "\ud800"}]
    given = plan_job(tmp_path, rows, columns={"prompt_ids": "ids", "id": "name"})
    finish(given.worker(), given.assignments)
    assert [(row["id"], bool(row["error"])) for row in given.rows()] == [("a", False), ("b", True)]


def test_only_the_assigned_rows_are_done(tmp_path):
    given = given_prompts(tmp_path, 8, shard_rows=8)
    report = finish(given.worker(), [Assignment(given.plan.shards[0], (2, 5))])
    assert [row["n"] for row in given.rows()] == [2, 3, 4]
    assert report.finished == (ShardDone(0, 3, 0, (2, 5)),)


def test_halves_of_a_shard_take_over_from_the_whole(tmp_path):
    cut = Event()

    class Gated(FakeEngine):
        def decode(self, state, features, steps):
            assert cut.wait(PATIENCE_S)
            return super().decode(state, features, steps)

    given = given_prompts(tmp_path, 8, shard_rows=8)
    worker, shard = given.worker(open_engine=factory(Gated, slots=2)), given.plan.shards[0]
    with running(worker):
        worker.set_assignments([Assignment(shard)])
        until(lambda: worker.report().working_on, worker)
        worker.set_assignments([Assignment(shard, (0, 4)), Assignment(shard, (4, 8))])
        cut.set()
        until(lambda: len(worker.report().finished) == 2, worker)
    assert [row["n"] for row in given.rows()] == list(range(8))


def test_a_convicted_row_is_published_as_its_error(tmp_path):
    given = given_prompts(tmp_path, 4)
    shard = given.plan.shards[0]
    convicted = Assignment(shard, (2, 3), {2: "its worker was lost again and again"})
    finish(given.worker(), [convicted])
    (row,) = given.rows()
    assert (row["n"], row["error"]) == (2, "in.jsonl, row 2: its worker was lost again and again")


def test_a_convicted_row_whose_first_samples_are_published_is_finished_all_the_same(tmp_path):
    given = given_prompts(tmp_path, 1, sampling={"n": 3})
    first = OutputRow(0, "in.jsonl#0", 0, 3, completion="x", finish_reason="stop")
    given.store.create("part-00000-0000.parquet", given.part([first]))
    convicted = Assignment(given.plan.shards[0], (0, 1), {0: "poison"})
    report = finish(given.worker(), [convicted])
    assert report.finished == (ShardDone(0, 1, 1, (0, 1)),)
    assert [(row["sample"], row["error"] is None) for row in given.rows()] == [
        (0, True),
        (1, False),
    ]


def test_a_row_that_another_goes_on_with_while_it_is_given_up_is_finished_all_the_same(tmp_path):
    given = given_prompts(tmp_path, 1)
    theirs = given.part([OutputRow(0, "in.jsonl#0", completion="begun", final=False)])
    late = [theirs]

    def create(name, data):
        if name.startswith("part-") and late:
            given.store.create("part-00000-0000.parquet", late.pop())
        return given.store.create(name, data)

    convicted = Assignment(given.plan.shards[0], (0, 1), {0: "poison"})
    report = finish(given.worker(store=Instead(given.store, create=create)), [convicted])
    assert report.finished == (ShardDone(0, 1, 1, (0, 1)),)
    assert [(row["segment"], row["completion"]) for row in given.rows()] == [
        (0, "begun"),
        (1, None),
    ]


def test_kept_columns_have_the_very_types_and_values_of_the_input(tmp_path):
    columns = {
        "ids": pa.array([[1, 2], [1, 3], [1, 9]], pa.list_(pa.int32())),
        "n": pa.array([0, 1, 2], pa.uint8()),
        "words": pa.array(["a", "b", "a"]).dictionary_encode(),
        "large": pa.array(["x", None, "z"], pa.large_string()),
        "view": pa.array(["x", "y", None], pa.string_view()),
        "when": pa.array([1, 2, 3], pa.timestamp("ns", "Europe/Paris")),
        "price": pa.array([1, None, 3], pa.decimal128(9, 2)),
        "deep": pa.array([{"a": [{"b": 1}]}, None, {"a": []}]),
        "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
        "blob": pa.array([b"\x00", b"", None], pa.binary()),
    }
    given = plan_job(tmp_path, pa.table(columns))
    finish(given.worker(), given.assignments)
    source = pq.read_table(tmp_path / "in.parquet")
    (part,) = given.out.glob("part-*")
    published = pq.read_table(part).select(source.column_names)
    assert published.replace_schema_metadata() == source.replace_schema_metadata()


def test_a_column_called_id_names_the_rows_and_those_without_go_by_their_place(tmp_path):
    rows = [{"ids": [1, 2], "id": name} for name in ("a", "", None)]
    given = plan_job(tmp_path, rows)
    report = finish(given.worker(), given.assignments)
    assert [row["id"] for row in given.rows()] == ["a", "", "in.jsonl#2"]
    assert report.rows_failed == 0


def test_a_mapped_id_that_is_null_is_a_fault_and_an_empty_one_is_an_id(tmp_path):
    rows = [{"ids": [1, 2], "id": name} for name in ("", None)]
    given = plan_job(tmp_path, rows, columns={"prompt_ids": "ids", "id": "id"})
    finish(given.worker(), given.assignments)
    empty, null = given.rows()
    assert (empty["id"], empty["error"]) == ("", None)
    assert (null["id"], null["error"][-4:]) == ("in.jsonl#1", "null")


TEXTS = {"prompt_ids": "ids", "completion": "text"}


@pytest.mark.parametrize(
    ("task", "columns", "value"),
    [("generate", {"prompt_ids": "ids"}, "completion_tokens"), ("score", TEXTS, "tokens")],
)
def test_rows_are_published_where_no_input_column_is_kept(tmp_path, task, columns, value):
    rows = [{"ids": [1, 2], "text": "ab"}, {"ids": [1, 3, 9], "text": "ab"}, {"ids": []}]
    output = {"keep": [], "token_ids": False}
    given = plan_job(tmp_path, rows, task=task, columns=columns, output=output)
    report = finish(given.worker(), given.assignments)
    found = pq.read_table(given.out).sort_by("id")
    assert (report.rows_done, report.rows_failed, report.error) == (2, 1, None)
    assert found.column("id").to_pylist() == ["in.jsonl#0", "in.jsonl#1", "in.jsonl#2"]
    assert found.column(value).to_pylist()[:2] == ([1, 1] if task == "score" else [20, 20])


def test_no_column_is_left_to_keep_where_the_id_is_mapped_and_a_template_makes_the_prompt(tmp_path):
    rows = pa.table({"id": ["a", "b"]})
    given = plan_job(tmp_path, rows, columns={"id": "id"}, template="{id}")
    finish(given.worker(), given.assignments)
    assert given.plan.kept == ()
    assert sorted(pq.read_table(given.out).column("id").to_pylist()) == ["a", "b"]


def test_requests_of_a_batch_are_answered_where_nothing_of_them_is_kept(tmp_path):
    asked = {"url": "/v1/completions", "body": {"prompt": [1, 2], "max_tokens": 3}}
    rows = [{"custom_id": name, **asked} for name in ("a", "b")]
    given = plan_job(tmp_path, rows, columns={}, format="openai-batch", output={"keep": []})
    finish(given.worker(), given.assignments)
    found = pq.read_table(given.out).sort_by("id").to_pydict()
    assert (found["id"], found["completion_ids"]) == (["a", "b"], [[3, 6, 2]] * 2)


def test_a_column_without_nulls_is_null_where_its_row_cannot_be_read(tmp_path):
    fields = [pa.field("ids", pa.list_(pa.int64())), pa.field("word", pa.string(), nullable=False)]
    offsets = pa.array(["a", "b"]).buffers()[1]
    bad = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff")])
    given = plan_job(tmp_path, pa.table([[[1, 2], [1, 3]], bad], schema=pa.schema(fields)))
    report = finish(given.worker(), given.assignments)
    assert (report.rows_done, report.rows_failed, report.error) == (1, 1, None)
    assert pq.read_table(given.out).column("word").to_pylist() == ["a", None]


def test_what_the_log_covers_is_not_done_again(tmp_path, engines):
    given = given_prompts(tmp_path)
    finish(given.worker(), [Assignment(given.plan.shards[0], (0, 3)), *given.assignments[1:]])
    report = finish(given.worker("b", open_engine=factory(Counted)), given.assignments)
    assert len(report.finished) == 3
    assert report.rows_done == 1
    assert [row["n"] for row in given.rows()] == list(range(10))


def test_copies_on_two_workers_at_once_publish_once(tmp_path):
    given = given_prompts(tmp_path, 40, shard_rows=8, sampling={"n": 2})
    hasty = WorkerPolicy(part_s=0.0, refresh_s=0.01)
    workers = [given.worker(name, policy=hasty, slots=2, steps=1) for name in "ab"]
    with running(*workers):
        for worker in workers:
            worker.set_assignments(given.assignments)
        until(lambda: all(len(w.report().finished) == 5 for w in workers), *workers)
    rows = given.rows()
    assert [(row["n"], row["sample"]) for row in rows] == [
        (n, s) for n in range(40) for s in (0, 1)
    ]
    assert sum(worker.report().rows_done for worker in workers) == 40


def test_rows_that_another_has_published_leave_their_slots(tmp_path):
    given = given_prompts(tmp_path, 2, sampling=ENDLESS, output={"segment_tokens": 2**30})
    slow = given.worker(policy=WorkerPolicy(refresh_s=0.05))
    with running(slow):
        slow.set_assignments(given.assignments)
        until(lambda: slow.report().occupied == 2, slow)
        rows = [OutputRow(n, "its id", completion="", finish_reason="stop") for n in (0, 1)]
        given.store.create("part-00000-0000.parquet", given.part(rows))
        until(lambda: slow.report().finished, slow)
        until(lambda: slow.report().occupied == 0, slow)
    assert slow.report().rows_done == 0


def test_a_stop_string_frees_the_slot(tmp_path):
    given = plan_job(tmp_path, [{"ids": [1, 2]}] * 6, sampling={**ENDLESS, "stop": "ab"})
    worker = given.worker(slots=2)
    with running(worker):
        worker.set_assignments(given.assignments)
        until(lambda: len(worker.report().finished) == 2, worker)
        until(lambda: worker.report().occupied == 0, worker)
    assert {row["finish_reason"] for row in given.rows()} == {"stop"}


def test_only_some_rows_wait_for_a_slot_at_once(tmp_path):
    given = given_prompts(tmp_path, 300, shard_rows=300, sampling=ENDLESS)
    worker = given.worker(slots=2, policy=WorkerPolicy(window=3))
    with running(worker):
        worker.set_assignments(given.assignments)
        until(lambda: worker.report().waiting >= 3 * 2, worker)
        until(lambda: worker._threads[1].progress_counter >= 300 / 32, worker)  # all are ready
        before = worker.report().progress_counter
        until(lambda: worker.report().progress_counter >= before + 10, worker)
        assert worker.report().waiting < 3 * 2 + 32


def test_what_is_taken_away_is_left_off(tmp_path):
    given = given_prompts(tmp_path, sampling=ENDLESS)
    worker = given.worker()
    with running(worker):
        worker.set_assignments(given.assignments)
        until(lambda: worker.report().occupied == 4, worker)
        worker.set_assignments([])
        until(lambda: not worker.report().occupied, worker)
        assert worker.report().waiting == 0
    assert given.rows() == []


def test_finished_rows_are_published_before_their_shard_is_finished(tmp_path):
    rows = [{"ids": [1, 2], "how": '{"max_tokens": 3}'}] * 3 + [{"ids": [1, 2], "how": None}]
    given = plan_job(
        tmp_path,
        rows,
        columns={"prompt_ids": "ids", "sampling": "how"},
        sampling=ENDLESS,
    )
    worker = given.worker(policy=WorkerPolicy(part_s=0.05))
    with running(worker):
        worker.set_assignments(given.assignments)
        until(lambda: worker.report().rows_done == 3, worker)
    assert [row["n"] for row in given.rows()] == [0, 1, 2]


def test_slots_are_told_once_the_engine_is_open_and_beats_grow_with_its_work(tmp_path):
    given = given_prompts(tmp_path, 4, sampling=ENDLESS)
    worker = given.worker(slots=4)
    assert worker.report().slots == 0
    with running(worker):
        worker.set_assignments(given.assignments)
        until(lambda: worker.report().occupied == 4, worker)
        first = worker.report()
        assert {(key.shard, key.row) for key in first.working_on} == {(0, n) for n in range(4)}
        until(lambda: worker.report().progress_counter > first.progress_counter + 10, worker)
    assert first.slots == 4


def test_a_row_is_told_before_it_enters_its_slot(tmp_path):
    class Poisoned(FakeEngine):
        def prefill(self, state, pack):
            raise RuntimeError("device lost\nmore of it")

    given = given_prompts(tmp_path, 1)
    report = finish(given.worker(open_engine=factory(Poisoned)), given.assignments)
    assert [(key.shard, key.row) for key in report.working_on] == [(0, 0)]
    assert (report.fault, report.error) == ("worker", "RuntimeError: device lost\nmore of it")


def test_an_engine_that_fails_leaves_what_was_finished_published(tmp_path):
    class Failing(FakeEngine):
        def decode(self, state, features, steps):
            if self.blocks == 6:  # the eight rows take two each, two rows at a time
                raise RuntimeError("device lost")
            return super().decode(state, features, steps)

    given = given_prompts(tmp_path, 8, sampling={"max_tokens": 6, "ignore_eos": True})
    report = finish(given.worker(open_engine=factory(Failing, slots=2, steps=3)), given.assignments)
    assert report.fault == "worker"
    assert 0 < len(given.rows()) < 8
    assert report.rows_done == len(given.rows())


def test_an_exception_tells_where_it_was_raised_and_whether_a_row_may_be_to_blame(tmp_path):
    class Failing(FakeEngine):
        def decode(self, *_):
            raise RuntimeError("device lost")

    given = given_prompts(tmp_path, 4)
    report = finish(given.worker(open_engine=factory(Failing)), given.assignments)
    assert (report.error, report.fault) == ("RuntimeError: device lost", "worker")
    assert re.fullmatch(r"RuntimeError at .*/test_worker.py:\d+", report.raised_at)
    assert report.in_engine


def test_an_exception_in_publishing_is_no_rows_fault(tmp_path):
    def broken(*_):
        raise RuntimeError("no reply understood")

    given = given_prompts(tmp_path, 4)
    report = finish(given.worker(store=Instead(given.store, create=broken)), given.assignments)
    assert (report.error, report.in_engine) == ("RuntimeError: no reply understood", False)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "the disk is full; free some space and run the same job again"),
        (errno.EDQUOT, "the quota is used up; free some space or raise it and run the same"),
        (errno.EROFS, "the disk can only be read; make it writable and run the same job again"),
    ],
)
def test_a_disk_that_takes_no_more_is_told_as_such(tmp_path, number, told):
    def create(name, data):
        if name.startswith("part-"):
            raise OSError(number, "no more")
        return given.store.create(name, data)

    given = given_prompts(tmp_path, 4)
    store = RetryingStore(Instead(given.store, create=create), Retry())
    report = finish(given.worker(store=store), given.assignments)
    assert (report.fault, report.rows_done) == ("full", 0)
    assert f"part-00000-0000.parquet: {told}" in report.error


def test_a_tokenizer_that_is_not_there_is_the_persons_fault(tmp_path):
    given = given_prompts(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    report = finish(given.worker(), given.assignments)
    assert report.fault == "user"
    assert "tokenizer.model" in report.error


def test_a_store_that_fails_for_good_is_told_as_such(tmp_path):
    given = given_prompts(tmp_path)

    def create(name, data):
        if name.startswith("part-"):
            raise StoreError("the store is gone")
        return given.store.create(name, data)

    report = finish(given.worker(store=Instead(given.store, create=create)), given.assignments)
    assert (report.fault, report.error) == ("store", "the store is gone")


def test_the_engine_waits_when_a_store_falls_behind(tmp_path):
    given = given_prompts(tmp_path, 400, shard_rows=100, sampling={"ignore_eos": True})
    answering = Event()

    def create(name, data):
        assert answering.wait(PATIENCE_S) or not name.startswith("part-")
        return given.store.create(name, data)

    answering.set()
    policy = WorkerPolicy(part_bytes=1000, backlog_bytes=20_000)
    worker = given.worker(store=Instead(given.store, create=create), policy=policy)
    with running(worker):
        until(lambda: worker.report().slots, worker)
        answering.clear()
        worker.set_assignments(given.assignments)
        session, _, publisher = worker._threads
        until(lambda: publisher.full and not session.in_engine, worker)
        before = worker.report().completion_tokens
        for _ in range(3):  # rounds of its loop, in which it does nothing
            worker._wake.set()
            until(lambda: not worker._wake.is_set(), worker)
        assert worker.report().completion_tokens == before < 400 * 20
        answering.set()
        until(lambda: len(worker.report().finished) == 4, worker)
    assert [row["n"] for row in given.rows()] == list(range(400))


def test_scores_are_those_of_the_texts_given_their_prompts(tmp_path):
    rows = [
        {"ids": [1, 2, 3], "text": "ab"},
        {"ids": [1, 5], "text": ""},
        {"ids": [1], "text": "c"},
    ]
    given = plan_job(
        tmp_path,
        rows,
        task="score",
        columns={"prompt_ids": "ids", "completion": "text"},
        sampling={"logprobs": 1},
        output={"token_ids": False},
    )
    report = finish(given.worker(), given.assignments)
    first, empty, last = given.rows()
    assert first["token_logprobs"] == [-6.0]
    assert (first["tokens"], first["logprob"], first["prompt_tokens"]) == (1, -6.0, 3)
    assert first["perplexity"] == pytest.approx(403.4287934927351)
    assert "nothing to score" in empty["error"]
    assert (last["logprob"], last["tokens"]) == (-1.0, 1)
    assert (report.rows_done, report.rows_failed) == (2, 1)
    assert (report.prompt_tokens, report.completion_tokens) == (4, 2)


def test_without_a_completion_column_all_but_the_first_token_are_scored(tmp_path):
    given = plan_job(tmp_path, [{"ids": [1, 2, 3]}], task="score")
    finish(given.worker(), given.assignments)
    (row,) = given.rows()
    assert (row["tokens"], row["logprob"], row["prompt_tokens"]) == (2, -1.0 - 3.0, 1)
