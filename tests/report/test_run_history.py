"""What the event log tells, on one axis of time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.events import (
    Event,
    RunEnded,
    WorkerChange,
    WorkerChanged,
    WorkerFigures,
    event_file_name,
    event_line,
)
from rgpipeline.report.run_history import History, read_history, read_runs
from rgpipeline.storage.store import Store, open_store


def rate(t: float, worker: str, tokens: int, **fields: Any) -> WorkerFigures:
    slots = {"slots": 10, "occupied": 10, **fields}
    return WorkerFigures(t, worker, completion_tokens=tokens, **slots)


def worker(t: float, what: WorkerChange, name: str = "w0", **fields: str) -> WorkerChanged:
    return WorkerChanged(t, what, name, **fields)


def logged(folder: Path, *runs: Sequence[Event]) -> Store:
    """A folder with these runs in its event log, each in two objects."""
    store = open_store(str(folder))
    for run in runs:
        for sequence, events in enumerate((run[:1], run[1:])):
            data = "".join(event_line(event) + "\n" for event in events).encode()
            store.create(event_file_name(int(run[0].t * 1000), sequence), data)
    return store


def history_of(folder: Path, *runs: Sequence[Event]) -> History:
    found = read_history(read_runs(logged(folder, *runs)))
    assert found is not None
    return found


def test_no_log_is_no_history(tmp_path: Path) -> None:
    assert read_history(read_runs(open_store(str(tmp_path)))) is None


def test_a_line_that_cannot_be_read_costs_itself_only(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    lines = event_line(RunEnded(1, "failed")).encode() + b'\n{"t": 2, "ki\n[]\n5\n\xff\n'
    store.create(event_file_name(1000, 0), lines)
    (run,) = read_runs(store)
    assert run.events == [RunEnded(1, "failed")]


def test_a_rate_is_tokens_gained_over_seconds(tmp_path: Path) -> None:
    found = history_of(tmp_path, [rate(0, "w0", 0), rate(50, "w0", 5000), rate(100, "w0", 5000)])
    (layer,) = found.layers
    half = found.bins.count // 2
    assert layer.values[:half] == pytest.approx([100.0] * half)
    assert layer.values[half:] == pytest.approx([0.0] * half)


def test_no_token_is_lost_in_the_bins(tmp_path: Path) -> None:
    events = [rate(t, "w0", t * t) for t in range(0, 97, 7)]
    found = history_of(tmp_path, events)
    assert sum(found.layers[0].values) * found.bins.width == pytest.approx(91 * 91)


def test_runs_stand_end_to_end(tmp_path: Path) -> None:
    first = [rate(0, "w0", 0), rate(10, "w0", 100)]
    second = [rate(9000, "w0", 0), rate(9030, "w0", 300)]
    found = history_of(tmp_path, first, second)
    assert found.axis.total == 40
    assert found.axis.offsets == (0, 10)


def test_many_workers_share_the_last_layer(tmp_path: Path) -> None:
    events = [rate(t, f"w{i}", t * (i + 1)) for t in (0, 10) for i in range(12)]
    found = history_of(tmp_path, events)
    assert [layer.name for layer in found.layers] == [f"w{i}" for i in range(5, 12)] + [""]
    assert found.layers[-1].values == pytest.approx([1 + 2 + 3 + 4 + 5] * found.bins.count)


def test_occupancy_is_of_all_slots_there_are(tmp_path: Path) -> None:
    events: list[Event] = [
        rate(t, name, 0, slots=slots, occupied=occupied)
        for t in (0, 10)
        for name, slots, occupied in (("w0", 30, 30), ("w1", 10, 0))
    ]
    assert history_of(tmp_path, events).occupancy == pytest.approx([0.75] * 160)


def test_occupancy_is_unknown_where_nobody_reported(tmp_path: Path) -> None:
    found = history_of(tmp_path, [worker(0, "starting"), rate(50, "w0", 0), rate(100, "w0", 9)])
    assert found.occupancy[0] is None
    assert found.occupancy[-1] == 1.0


def test_a_workers_life(tmp_path: Path) -> None:
    events: list[Event] = [
        worker(0, "starting"),
        worker(1, "up", host="a"),
        worker(5, "ready"),
        worker(30, "died", reason="SIGKILL"),
        worker(31, "starting", "w1"),
        rate(40, "w1", 1),
    ]
    lost, replaced = history_of(tmp_path, events).lives
    assert (lost.host, lost.start, lost.ready, lost.end) == ("a", 0, 5, 30)
    assert (lost.how, lost.reason) == ("died", "SIGKILL")
    assert (replaced.how, replaced.ready, replaced.end) == ("running", None, 40)


def test_speed_against_position_is_of_all_workers_last_words(tmp_path: Path) -> None:
    def positions(tokens: float, seconds: float) -> dict[str, float]:
        chance = {"position_2_tokens": 1.0, "position_2_s": 0.02}
        return {"position_4_tokens": tokens, "position_4_s": seconds, **chance}

    events: list[Event] = [
        rate(0, "w0", 0, details=positions(1.0, 1.0)),
        rate(9, "w0", 0, details=positions(60.0, 2.0)),
        rate(9, "w1", 0, details=positions(40.0, 2.0)),
    ]
    assert history_of(tmp_path, events).positions == [(16, 25.0)]
