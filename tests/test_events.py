"""The event log's records: written, read, and read from logs of older versions."""

import pytest

from rgpipeline.events import (
    Event,
    RunBegan,
    RunEnded,
    WorkerChanged,
    WorkerFigures,
    event_file_name,
    event_line,
    parse_event,
    parse_event_file_name,
)

EVENTS: list[Event] = [
    RunBegan(1.5, {"ray": "2.55"}, "TPU host with 8 chips", "local", chips=8),
    RunEnded(2.0, "failed", "the disk is full: \udcff"),
    WorkerChanged(3.0, "died", "w0", "host", "SIGKILL"),
    WorkerFigures(4.0, "w0", "host", "at work", 8, 7, 6, 5, 4, 3, 2, {"prefill_s": 1.5}),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_read_as_it_was_written(event: Event) -> None:
    assert parse_event(event_line(event).encode()) == event


def test_a_line_of_an_older_version_is_read_without_the_fields_it_lacks() -> None:
    old = b'{"t": 9.125, "kind": "run", "what": "began", "versions": {"ray": "2"}, "accelerator": '
    old += b'"host with 4 CPU cores", "address": "local"}'
    assert parse_event(old) == RunBegan(9.125, {"ray": "2"}, "host with 4 CPU cores", "local")


def test_a_field_of_another_type_has_its_default() -> None:
    line = b'{"t": 1, "kind": "rate", "worker": "w0", "slots": "8", "details": [], "more": 1}'
    assert parse_event(line) == WorkerFigures(1, "w0")


@pytest.mark.parametrize("line", [b"", b"5", b"{", b"\xff", b'{"kind": "rate"}', b'{"t": 1}'])
def test_a_line_that_is_no_event_is_none(line: bytes) -> None:
    assert parse_event(line) is None


def test_files_of_the_log_are_told_from_others() -> None:
    assert event_file_name(1700, 3) == "_rgp/events/1700-0003.jsonl"
    assert parse_event_file_name("_rgp/events/1700-0003.jsonl") == (1700, 3)
    assert parse_event_file_name("_rgp/events/1700.jsonl") is None
