"""Stored states: none named that isn't there, none left over, and rows that follow them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from rgpipeline.errors import StoreError
from rgpipeline.io.state_files import load_state, state_bytes
from rgpipeline.output import JobFolder
from rgpipeline.output.orphan_states import remove_orphan_states
from tests.worker.planned_jobs import PROMPTS, Instead, finish, plan_job
from tests.worker.ten_tokens import expected, factory
from tests.worker.test_resume import live, lives

LAST = {"states": "last"}


def follow(folder: Path, states: list[str | None], prompts: list[list[int]], **sections):
    rows = [{"ids": p, "state": s} for p, s in zip(prompts, states, strict=True)]
    columns = {"prompt_ids": "ids", "state": "state"}
    return plan_job(folder, rows, columns=columns, **sections)


def done(given, **options) -> list[dict]:
    report = finish(given.worker(**options), given.assignments)
    assert report.error is None
    return given.rows()


def state_files(given) -> list[str]:
    return sorted(str(path) for path in (given.out / "_states").glob("*"))


def test_a_row_follows_the_state_of_another(tmp_path):
    first = done(plan_job(tmp_path / "a", [{"ids": p} for p in PROMPTS], output=LAST))
    rows = done(follow(tmp_path / "b", [row["state"] for row in first], PROMPTS[::-1]))
    wholes = [[*row["ids"], *row["completion_ids"]] for row in first]
    for whole, row, mine in zip(wholes, rows, PROMPTS[::-1], strict=True):
        assert load_state(row["state"]).position == len(whole)
        assert row["completion_ids"] == expected([*whole, *mine], 20)
        assert row["prompt_tokens"] == len(mine)


@pytest.mark.parametrize("texts", ["ab", ["ab", "c"]], ids=["a text", "a list"])
def test_completions_are_scored_after_a_state(tmp_path, texts):
    read = done(plan_job(tmp_path / "a", [{"ids": p} for p in PROMPTS], output=LAST))
    wholes = [[*row["ids"], *row["completion_ids"], 5] for row in read]
    columns = {"prompt_ids": "ids", "completion": "text"}

    def scored(name: str, rows: list[dict], **more: str) -> list[dict]:
        rows = [{**row, "text": texts} for row in rows]
        return done(plan_job(tmp_path / name, rows, columns={**columns, **more}, task="score"))

    after = [{"ids": [5], "state": row["state"]} for row in read]
    found, wanted = scored("b", after, state="state"), scored("c", [{"ids": w} for w in wholes])
    for ours, theirs, whole in zip(found, wanted, wholes, strict=True):
        assert ours["logprob"] == theirs["logprob"]
        assert (ours["prompt_tokens"], theirs["prompt_tokens"]) == (1, len(whole))


def test_without_a_completion_all_of_a_prompt_is_scored_after_a_state(tmp_path):
    (read,) = done(plan_job(tmp_path / "a", [{"ids": PROMPTS[0]}], output=LAST))
    (row,) = done(follow(tmp_path / "b", [read["state"]], [[5, 6]], task="score"))
    whole = sum([*read["ids"], *read["completion_ids"]])
    assert (row["tokens"], row["prompt_tokens"], row["logprob"]) == (2, 0, -(whole + whole + 5))


def test_a_row_without_a_state_begins_anew(tmp_path):
    (row,) = done(follow(tmp_path, [None], PROMPTS[:1]))
    assert row["completion_ids"] == expected(PROMPTS[0], 20)


def test_max_tokens_0_reads_only(tmp_path):
    given = plan_job(tmp_path, [{"ids": PROMPTS[1]}], output=LAST, sampling={"max_tokens": 0})
    (row,) = done(given)
    assert (row["completion"], row["finish_reason"], row["completion_tokens"]) == ("", "length", 0)
    assert load_state(row["state"]).position == len(PROMPTS[1])
    assert state_files(given) == [row["state"]]


def test_equal_rows_share_a_file_and_failed_ones_have_none(tmp_path):
    given = plan_job(tmp_path, [{"ids": PROMPTS[0]}] * 3 + [{"ids": None}], output=LAST)
    rows = done(given)
    assert len({row["state"] for row in rows[:3]}) == len(state_files(given)) == 1
    assert (rows[3]["finish_reason"], rows[3]["state"]) == ("error", None)


def spoil(url: str) -> str:
    data = bytearray(Path(url).read_bytes())
    data[-9] ^= 1
    Path(url).write_bytes(data)
    return url


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda url: url + "x", "no state is there; read the text again, or correct the address"),
        (spoil, "not a state that can be read (its checksum is another)"),
    ],
    ids=["missing", "damaged"],
)
def test_a_state_that_cannot_be_used_costs_its_row(tmp_path, change, fault):
    (first,) = done(plan_job(tmp_path / "a", [{"ids": PROMPTS[0]}], output=LAST))
    rows = done(follow(tmp_path / "b", [None, change(first["state"])], PROMPTS[:2]))
    assert rows[0]["error"] is None
    assert fault in rows[1]["error"]


def test_a_state_of_another_model_costs_its_row_and_the_message_names_both(tmp_path):
    read = load_state(
        done(plan_job(tmp_path / "a", [{"ids": PROMPTS[0]}], output=LAST))[0]["state"]
    )
    path = tmp_path / "other.safetensors"
    path.write_bytes(state_bytes(replace(read, kind=replace(read.kind, model="0123"))))
    for task in ("generate", "score"):
        (row,) = done(follow(tmp_path / task, [str(path)], PROMPTS[:1], task=task))
        assert "the state has 0123 as the weights' fingerprint, and this model fake" in row["error"]


def test_a_state_is_there_before_a_row_names_it(tmp_path):
    given = plan_job(tmp_path, [{"ids": p} for p in PROMPTS], output=LAST)

    def create(name, data):
        if name.startswith("_states/"):
            raise StoreError("gone")
        return given.store.create(name, data)

    finish(given.worker(store=Instead(given.store, create=create)), given.assignments)
    assert given.parts() == []


@for_all(
    prompts=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=1, max_size=4),
    lived=lives,
    limit=st.integers(0, 60),
    stop=st.sampled_from([(), ("bb",), ("cb", "abab")]),
)
@settings(deadline=None, max_examples=6)
def test_any_interruptions_leave_the_same_rows_and_the_same_states(
    tmp_path_factory, prompts, lived, limit, stop
):
    folder = tmp_path_factory.mktemp("job")
    sampling = {"max_tokens": limit, "ignore_eos": True, "stop": stop, "n": 2}
    options = {"sampling": sampling, "output": {"segment_tokens": 16, **LAST}, "shard_rows": 2}
    rows = [{"ids": prompt} for prompt in prompts]
    calm = plan_job(folder / "calm", rows, **options)
    wanted = done(calm, slots=3)
    given = plan_job(folder / "rough", rows, **options)
    for index, (end, block, slots, steps) in enumerate(lived):
        live(given, f"life{index}", end, block, slots, steps, None)
    (given.out / "_states").mkdir(exist_ok=True)
    (given.out / "_states" / "orphan.safetensors").write_bytes(b"of a row that was lost")
    found = done(given, slots=2)
    remove_orphan_states(JobFolder(given.store, given.job, given.plan))
    assert [moved(row, given, calm) for row in found] == wanted
    assert state_files(given) == sorted({row["state"] for row in found if row["state"]})


def moved(row: dict, given, calm) -> dict:
    state = row["state"] and row["state"].replace(str(given.out), str(calm.out))
    return {**row, "state": state}


def test_a_long_prompts_state_is_read_in_chunks(tmp_path):
    """The fake engine's chunk is 4, so 8 of the 11 tokens are in the state."""
    ids = [1 + n % 9 for n in range(11)]
    given = plan_job(tmp_path, [{"ids": ids}], output=LAST, sampling={"max_tokens": 0})
    read = load_state(done(given, open_engine=factory(chunk=4))[0]["state"])
    assert (read.read, read.tail.tolist()) == (8, ids[8:])
    assert read.arrays["total"] == sum(ids[:8])
    assert read.seen_ids().tolist() == np.unique(ids[:8]).tolist()
