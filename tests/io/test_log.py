"""The log under thousands of schedules: whoever dies and whatever fails, each row comes once.

Writers share a shard of three rows; every one of them wants to publish all of it. What the parts
hold at the end is read with pyarrow alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rgpipeline.errors import OutputError, RgpipelineError, StoreError
from rgpipeline.io.log import Build, ShardLog
from rgpipeline.io.parts import PartLabel, footer_metadata, parse_part_name, part_name
from rgpipeline.records import OutputRow
from tests.io.schedules import FaultyStore, Killed, MemoryStore, Schedule, interleave, patient

SAMPLES = (1, 2, 1)  # of each row
SEGMENTS = {(0, 0): 1, (1, 0): 3, (1, 1): 1, (2, 0): 2}

schedules = st.binary(min_size=40, max_size=160)


def row(number: int, sample: int, segment: int, error: str | None = None) -> OutputRow:
    last = error or segment == SEGMENTS[number, sample] - 1
    return OutputRow(
        row=number,
        id=str(number),
        sample=sample,
        samples=1 if error else SAMPLES[number],
        segment=segment,
        completion=f"{number}/{sample}/{segment}",
        finish_reason="error" if error else "stop" if last else None,
        error=error,
        final=last or error is not None,
    )


def part_of(attempt: str) -> Build:
    """Builds parts with real footers around two columns of our own."""

    def build(rows: Sequence[OutputRow], part: int) -> bytes:
        label = PartLabel(0, part, attempt, "fingerprint", {})
        table = pa.table(
            {
                "key": [(r.row, r.sample, r.segment) for r in rows],
                "final": [r.final for r in rows],
                "error": pa.array([r.error for r in rows], pa.string()),
            }
        )
        sink = pa.BufferOutputStream()
        table = table.replace_schema_metadata(footer_metadata(rows, label))
        pq.write_table(table, sink, compression="none", use_dictionary=False)
        return bytes(sink.getvalue())

    return build


def work(log: ShardLog, build: Build, schedule: Schedule) -> None:
    """Publishes the shard as a worker does, in batches of any size and from any start."""
    log.refresh()
    while not log.committed.finished(len(SAMPLES)):
        left = [key for key in SEGMENTS if not log.committed.final(*key)]
        chosen = left[schedule.pick(len(left)) :][: 1 + schedule.pick(2)]
        batch: list[OutputRow] = []
        for number, sample in chosen:
            published = log.committed.segments(number, sample)
            first = schedule.pick(published + 1)  # a worker may begin at an old snapshot
            stop = SEGMENTS[number, sample] - schedule.pick(2)
            batch += [row(number, sample, segment) for segment in range(first, stop)]
        if schedule.pick(16) == 15:
            number = chosen[0][0]
            batch = [row(number, 0, log.committed.segments(number), error="poison")]
        log.append(batch, build)


def writer(
    name: str, objects: dict[str, bytes], schedule: Schedule
) -> Callable[[Callable[[], None]], None]:
    """A worker that is replaced whenever it is killed or gives up, until the shard is done."""

    def run(turn: Callable[[], None]) -> None:
        store = patient(FaultyStore(objects, schedule, turn))
        for life in range(1000):
            with suppress(Killed, StoreError, OutputError):
                work(ShardLog(store, 0), part_of(f"{name}{life}"), schedule)
                return

    return run


def published(objects: dict[str, bytes]) -> Iterator[dict[str, object]]:
    """What readers of the folder see, in the log's order."""
    for name in sorted(objects, key=lambda name: parse_part_name(name) or ()):
        yield from pq.read_table(pa.BufferReader(objects[name])).to_pylist()


def check(objects: dict[str, bytes]) -> None:
    """Every sample's segments once, in order, up to the last; or else a row given up, once."""
    assert sorted(objects) == [part_name(0, k) for k in range(len(objects))]
    seen: dict[tuple[int, int], list[int]] = {}
    ended: dict[tuple[int, int], bool] = {}
    failed: set[int] = set()
    for line in published(objects):
        number, sample, segment = line["key"]  # type: ignore[misc]
        assert not ended.get((number, sample))
        seen.setdefault((number, sample), []).append(segment)
        ended[number, sample] = bool(line["final"])
        failed |= {number} if line["error"] else set()
    for key, segments in seen.items():
        assert segments == list(range(len(segments)))
        assert ended[key] or key[0] in failed
        assert key[0] in failed or len(segments) == SEGMENTS[key]
    assert {key[0] for key in seen} == set(range(len(SAMPLES)))
    assert seen.keys() | {key for key in SEGMENTS if key[0] in failed} == SEGMENTS.keys()


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 3), schedules)
def test_each_row_comes_once_whoever_dies_and_whatever_fails(writers: int, numbers: bytes) -> None:
    objects: dict[str, bytes] = {}
    schedule = Schedule(numbers)
    interleave(schedule, [writer(f"w{k}-", objects, schedule) for k in range(writers)])
    check(objects)


def check_whole(objects: dict[str, bytes]) -> None:
    """Every segment of every sample once, whatever the order; or else the row was given up."""
    lines = list(published(objects))
    keys = [tuple(line["key"]) for line in lines if not line["error"]]  # type: ignore[arg-type]
    failed = {line["key"][0] for line in lines if line["error"]}  # type: ignore[index]
    assert len(keys) == len(set(keys))
    wanted = {(*key, segment) for key, count in SEGMENTS.items() for segment in range(count)}
    assert {key for key in wanted - set(keys) if key[0] not in failed} == set()


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 3), schedules, st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_rows_of_removed_parts_are_published_again_and_no_others(
    writers: int, numbers: bytes, removed: list[int]
) -> None:
    objects: dict[str, bytes] = {}
    schedule = Schedule(numbers)
    for run in range(2):
        interleave(schedule, [writer(f"{run}{k}-", objects, schedule) for k in range(writers)])
        check_whole(objects)
        if run == 0:
            for number in removed:
                objects.pop(part_name(0, number), None)
            kept = dict(objects)
    assert objects.items() >= kept.items()
    assert all(name > max(kept, default="") for name in objects.keys() - kept.keys())


def test_no_part_is_created_below_one_that_is_there() -> None:
    store = MemoryStore()
    late, other = ShardLog(store, 0), ShardLog(store, 0)
    late.refresh()
    for number in range(3):
        other.append([row(1, 0, number)], part_of("other"))
    store.delete(part_name(0, 0))
    store.delete(part_name(0, 1))
    assert late.append([row(1, 0, 0), row(2, 0, 0)], part_of("late"))
    assert sorted(store.objects) == [part_name(0, 2), part_name(0, 3)]


def test_a_part_that_a_listing_leaves_out_is_found() -> None:
    class Lagging(MemoryStore):
        def list(self, prefix: str = "") -> Sequence[str]:
            return [name for name in super().list(prefix) if name != part_name(0, 1)]

    store = Lagging()
    first = ShardLog(store, 0)
    for number in range(3):
        first.append([row(1, 0, number)], part_of("first"))
    assert ShardLog(store, 0).append([row(1, 0, 1)], part_of("second")) == []


def test_an_append_whose_reply_is_lost_is_ones_own() -> None:
    objects: dict[str, bytes] = {}
    after = FaultyStore._FATES.index("error after")
    store = patient(FaultyStore(objects, Schedule([after]), lambda: None))
    log = ShardLog(store, 0)
    rows = [row(0, 0, 0)]
    assert log.append(rows, part_of("a")) == rows
    assert log.parts == len(objects) == 1


def test_who_loses_the_race_publishes_what_is_left() -> None:
    store = MemoryStore()
    one, two = ShardLog(store, 0), ShardLog(store, 0)
    one.append([row(0, 0, 0), row(1, 0, 0)], part_of("one"))
    assert two.append([row(0, 0, 0), row(1, 0, 0), row(1, 0, 1)], part_of("two")) == [row(1, 0, 1)]
    assert two.append([row(0, 0, 0)], part_of("two")) == []
    assert len(store.objects) == 2


def test_a_store_that_hides_what_exists_is_found_out() -> None:
    class Hiding(MemoryStore):
        def read_tail(self, name: str, length: int) -> bytes:
            raise FileNotFoundError(name)

    class HidingAll(Hiding):
        def list(self, prefix: str = "") -> Sequence[str]:
            return []

    for store in (Hiding(), HidingAll()):
        ShardLog(store, 0).append([row(0, 0, 0)], part_of("one"))
        with pytest.raises(StoreError, match=r"part-00000-0000.parquet: exists and is absent"):
            ShardLog(store, 0).append([row(1, 0, 0)], part_of("two"))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all", b"x" * 100 + b"PAR1"])
def test_a_stranger_under_a_parts_name_is_named(data: bytes) -> None:
    store = MemoryStore()
    store.create(part_name(0, 0), data)
    with pytest.raises(
        RgpipelineError, match=r"memory/part-00000-0000.parquet: damaged: .*; remove"
    ):
        ShardLog(store, 0).refresh()


def test_parquet_of_another_writer_is_named() -> None:
    store = MemoryStore()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    store.create(part_name(0, 0), bytes(sink.getvalue()))
    with pytest.raises(OutputError, match=r"part-00000-0000.parquet: not written by rgpipeline"):
        ShardLog(store, 0).refresh()


def test_a_part_under_another_parts_name_is_named() -> None:
    store = MemoryStore()
    ShardLog(store, 0).append([row(0, 0, 0)], part_of("one"))
    store.create(part_name(0, 5), store.read(part_name(0, 0)))
    with pytest.raises(OutputError, match=r"0-0005.parquet: a copy of part-00000-0000.parquet"):
        ShardLog(store, 0).refresh()


def test_a_part_that_another_program_shortened_is_named() -> None:
    store = MemoryStore()
    ShardLog(store, 0).append([row(0, 0, 0), row(1, 0, 0)], part_of("one"))
    whole = pq.read_table(pa.BufferReader(store.objects.pop(part_name(0, 0))))
    sink = pa.BufferOutputStream()
    pq.write_table(whole.slice(1), sink)
    store.create(part_name(0, 0), bytes(sink.getvalue()))
    with pytest.raises(OutputError, match=r"changed by another program: it has 1 rows where 2"):
        ShardLog(store, 0).refresh()
