"""Interrupted work goes on with the same bytes, wherever and however often."""

import re
from threading import Thread

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from rgpipeline.errors import StoreError
from rgpipeline.io.snapshots import Snapshots
from rgpipeline.records import SampleKey, Snapshot
from rgpipeline.worker.shared import WorkerPolicy
from tests.fake_engine import FakeEngine
from tests.worker.planned_jobs import PATIENCE_S, PROMPTS, Instead, finish, plan_job, running, until
from tests.worker.ten_tokens import TellingEngine, expected, factory

ENDLESS = {"max_tokens": None, "ignore_eos": True}


def interrupted_at(block: int, action):
    """A kind of engine that does `action` when it begins its nth block."""

    class Interrupted(TellingEngine):
        def decode(self, state, features, steps):
            if self.blocks == block:
                action()
            return super().decode(state, features, steps)

    return Interrupted


def die():
    raise RuntimeError("killed")


def live(given, name: str, end: str, block: int, slots: int, steps: int, policy) -> None:
    """One life of a worker, to its end: drained, its engine lost, or its store gone with it."""
    gone = []

    def create(object_name, data):
        if gone:
            raise StoreError("gone")
        return given.store.create(object_name, data)

    def act():
        if end == "drained":
            worker.drain()
        else:
            gone.extend(["gone"] if end == "killed" else [])
            die()

    kind = interrupted_at(block, act)
    worker = given.worker(
        name,
        store=Instead(given.store, create=create),
        open_engine=factory(kind, slots=slots, steps=steps),
        policy=policy,
    )
    finish(worker, given.assignments)


lives = st.lists(
    st.tuples(
        st.sampled_from(["drained", "crashed", "killed"]),
        st.integers(0, 30),  # blocks lived
        st.integers(1, 4),  # slots
        st.integers(1, 7),  # steps in a block
    ),
    max_size=5,
)


@for_all(
    prompts=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=5),
    lived=lives,
    segment=st.integers(16, 40),
    limit=st.integers(1, 90),
    stop=st.sampled_from([(), ("bb",), ("cb", "abab"), ("é",)]),
    hasty=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_any_interruptions_leave_the_same_table(
    tmp_path_factory, prompts, lived, segment, limit, stop, hasty
):
    folder = tmp_path_factory.mktemp("job")
    sampling = {"max_tokens": limit, "ignore_eos": True, "stop": stop, "logprobs": 2, "n": 2}
    options = {"sampling": sampling, "output": {"segment_tokens": segment}, "shard_rows": 2}
    rows = [{"ids": prompt} for prompt in prompts]
    calm = plan_job(folder / "calm", rows, **options)
    finish(calm.worker(slots=3), calm.assignments)
    given = plan_job(folder / "rough", rows, **options)
    policy = WorkerPolicy(part_s=0.0 if hasty else 30.0)
    for index, (end, block, slots, steps) in enumerate(lived):
        live(given, f"life{index}", end, block, slots, steps, policy)
    finish(given.worker("last", slots=2, policy=policy), given.assignments)
    assert given.table().equals(calm.table())
    assert given.snapshots() == []


@for_all(removed=st.sets(st.integers(0, 20), min_size=1), blocks=st.integers(1, 12))
@settings(deadline=None, max_examples=25)
def test_removed_parts_are_done_again_with_the_same_bytes(tmp_path_factory, removed, blocks):
    folder = tmp_path_factory.mktemp("job")
    sampling = {"max_tokens": 70, "ignore_eos": True, "n": 2}
    given = plan_job(
        folder,
        [{"ids": prompt} for prompt in PROMPTS[:3]],
        sampling=sampling,
        output={"segment_tokens": 16},
    )
    policy = WorkerPolicy(part_s=0.0)
    live(given, "first", "drained", blocks, 2, 7, policy)
    finish(given.worker("second", slots=4, policy=policy), given.assignments)
    whole, parts = given.table(), given.parts()
    for number in removed:
        parts[number % len(parts)].unlink(missing_ok=True)
    kept = given.parts()
    finish(given.worker("third", slots=3, policy=policy), given.assignments)
    assert given.table().equals(whole)
    assert all(part > max(kept, default=folder) for part in given.parts() if part not in kept)


@pytest.fixture
def endless(tmp_path):
    return plan_job(tmp_path, [{"ids": [1, 2]}], sampling=ENDLESS, output={"segment_tokens": 16})


def tokens_published(given) -> int:
    return sum(row["completion_tokens"] for row in given.rows())


def tokens_saved(given) -> int:
    """How far the one snapshot there is has come."""
    (name,) = given.snapshots()
    return int(name.split("-")[-1].split(".")[0])


def doublings(worker) -> list[int]:
    """Each k for which the worker has generated at positions from 2^k to 2^(k + 1)."""
    told = (re.fullmatch(r"position_(\d+)_tokens", key) for key in worker.report().details)
    return [int(found[1]) for found in told if found]


def until_more_is_published(given, worker) -> None:
    """Two parts, and so many tokens that they are worth saving."""
    before = len(given.parts())
    until(lambda: len(given.parts()) >= before + 2, worker)
    until(lambda: worker.report().completion_tokens > 2 * WorkerPolicy().snapshot_tokens, worker)


def test_a_sequence_without_end_goes_on_from_where_it_was_drained(endless):
    hasty = WorkerPolicy(part_s=0.0)
    for life in range(3):
        worker = endless.worker(f"life{life}", policy=hasty)
        with running(worker):
            worker.set_assignments(endless.assignments)
            until_more_is_published(endless, worker)
        # Less than a segment is soon made again.
        assert tokens_saved(endless) > tokens_published(endless) - 16
    rows = endless.rows()
    tokens = [token for row in rows for token in row["completion_ids"]]
    assert tokens == expected([1, 2], len(tokens), ignore_eos=True)
    assert [row["segment"] for row in rows] == list(range(len(rows)))


def test_a_sequence_whose_state_is_unreadable_is_made_again(tmp_path):
    sampling = {"max_tokens": 2000, "ignore_eos": True}
    given = plan_job(tmp_path, [{"ids": [1, 2]}], sampling=sampling, output={"segment_tokens": 400})
    live(given, "first", "drained", block=500, slots=1, steps=3, policy=WorkerPolicy(part_s=0.0))
    (name,) = given.snapshots()
    (given.out / "_rgp/state" / name).write_bytes(b"torn")
    finish(given.worker("second"), given.assignments)
    tokens = [token for row in given.rows() for token in row["completion_ids"]]
    assert tokens == expected([1, 2], 2000, ignore_eos=True)
    assert given.snapshots() == []


def test_a_store_that_fails_is_not_the_rows_fault(endless):
    with running(worker := endless.worker("first", policy=WorkerPolicy(part_s=0.0))):
        worker.set_assignments(endless.assignments)
        until_more_is_published(endless, worker)
    before = endless.parts()

    def read(name):
        if "state/" in name:
            raise StoreError("gone for good")
        return endless.store.read(name)

    again = endless.worker("second", store=Instead(endless.store, read=read))
    with running(again):
        again.set_assignments(endless.assignments)
        until(lambda: again.report().error, again)
    assert again.report().fault == "store"
    assert endless.parts() == before


def test_a_resumed_sequence_is_not_generated_from_its_start(endless):
    with running(worker := endless.worker("first", policy=WorkerPolicy(part_s=0.0))):
        worker.set_assignments(endless.assignments)
        until_more_is_published(endless, worker)
    saved = tokens_saved(endless)
    again = endless.worker("second")
    with running(again):
        again.set_assignments(endless.assignments)
        until(lambda: doublings(again), again)
    assert again.report().prompt_tokens == 0
    assert 2 ** (min(doublings(again)) + 1) > saved > WorkerPolicy().snapshot_tokens


def test_only_the_newest_snapshot_of_a_sequence_is_kept(endless):
    with running(worker := endless.worker(policy=WorkerPolicy(part_s=0.0))):
        worker.set_assignments(endless.assignments)
        until_more_is_published(endless, worker)
    assert len(endless.snapshots()) == 1


def test_short_sequences_are_not_saved_when_drained(tmp_path):
    given = plan_job(tmp_path, [{"ids": p} for p in PROMPTS], sampling=ENDLESS)
    worker = given.worker(open_engine=factory(interrupted_at(3, lambda: worker.drain()), slots=4))
    finish(worker, given.assignments)
    assert worker.report().stopped
    assert given.snapshots() == []


def test_long_work_is_saved_without_a_segment_or_an_end(tmp_path):
    boundless = {"sampling": ENDLESS, "output": {"segment_tokens": 1 << 40}, "shard_rows": 8}
    given = plan_job(tmp_path, [{"ids": p} for p in PROMPTS], **boundless)
    eager = WorkerPolicy(part_s=0.0, snapshot_s=0.0, snapshot_tokens=50)
    with running(worker := given.worker(slots=8, policy=eager)):
        worker.set_assignments(given.assignments)
        until(lambda: len({n.rsplit("-", 1)[0] for n in given.snapshots()}) == 8, worker)
    assert given.rows() == []


def test_a_snapshot_of_another_dtype_is_left_aside(endless):
    with running(worker := endless.worker(policy=WorkerPolicy(part_s=0.0))):
        worker.set_assignments(endless.assignments)
        until_more_is_published(endless, worker)
    key, snapshots = SampleKey(0, 0, 0), Snapshots(endless.store)
    snapshots.remove(key)
    strange = Snapshot({"total": np.float16([0])}, 40)
    snapshots.save(key, strange, {"dtype": "bfloat16"})
    again = endless.worker("again", policy=WorkerPolicy(part_s=0.0))
    with running(again):
        again.set_assignments(endless.assignments)
        until_more_is_published(endless, again)
    assert again.report().error is None
    tokens = [token for row in endless.rows() for token in row["completion_ids"]]
    assert tokens == expected([1, 2], len(tokens), ignore_eos=True)


def test_few_states_are_on_their_way_to_the_store_at_once(tmp_path):
    class Watched(FakeEngine):
        downloads = 0

        def download(self, state, slot):
            Watched.downloads += 1
            return super().download(state, slot)

    given = plan_job(
        tmp_path,
        [{"ids": [1, 2]}] * 8,
        sampling=ENDLESS,
        shard_rows=8,
        output={"segment_tokens": 16},
    )

    def create(name, data):
        if name.startswith("_rgp/state"):
            raise StoreError("no snapshots today")
        return given.store.create(name, data)

    policy = WorkerPolicy(part_s=2 * PATIENCE_S, save_s=2 * PATIENCE_S, snapshots_at_once=3)
    store = Instead(given.store, create=create)
    worker = given.worker(store=store, open_engine=factory(Watched, slots=8), policy=policy)
    thread = Thread(target=worker.run, daemon=True)
    thread.start()
    worker.set_assignments(given.assignments)
    until(lambda: worker.report().completion_tokens > 2000, worker)
    assert Watched.downloads == 3
    worker.drain()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
