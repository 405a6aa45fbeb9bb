"""The rule of what may be appended, by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgpipeline.io.committed_rows import CommittedRows, Entry, Progress, entry_of
from rgpipeline.records import OutputRow

IN_PROGRESS, DONE, FAILED = Progress.IN_PROGRESS, Progress.DONE, Progress.FAILED


def committed(*entries: Entry) -> CommittedRows:
    rows = CommittedRows()
    rows.add(entries)
    return rows


def test_nothing_is_committed_at_first() -> None:
    assert (
        CommittedRows().rows_finished,
        CommittedRows().finished(0),
        CommittedRows().finished(1),
    ) == (0, True, False)


def test_a_row_is_finished_when_all_its_samples_are() -> None:
    found = committed(Entry(4, 1, 0, DONE, 2))
    assert (found.row_finished(4), found.final(4, 1), found.final(4, 0)) == (False, True, False)
    found.add([Entry(4, 0, 0, DONE, 2)])
    assert (found.row_finished(4), found.rows_finished, found.rows_failed) == (True, 1, 0)


def test_a_sample_that_goes_on_says_which_segment_is_next() -> None:
    found = committed(Entry(0, 0, 0, IN_PROGRESS, 1), Entry(0, 0, 1, IN_PROGRESS, 1))
    assert (found.segments(0), found.final(0)) == (2, False)
    found.add([Entry(0, 0, 2, DONE, 1)])
    assert (found.segments(0), found.final(0)) == (0, True)


def test_a_segment_is_not_appended_past_a_gap() -> None:
    found = committed(Entry(3, 1, 0, IN_PROGRESS, 2))
    with pytest.raises(ValueError, match="row 3, sample 1: segment 2 follows 1 published"):
        found.missing([Entry(3, 1, 2, DONE, 2)])


LONG = [Entry(0, 0, k, DONE if k == 3 else IN_PROGRESS, 1) for k in range(4)]


@given(st.permutations(LONG), st.sets(st.sampled_from(LONG)))
def test_segments_that_were_removed_are_missing_and_no_others(
    order: list[Entry], removed: set[Entry]
) -> None:
    found = committed(*(entry for entry in order if entry not in removed))
    assert found.row_finished(0) == (not removed)
    assert found.segments(0) == (min(entry.segment for entry in removed) if removed else 0)
    assert [LONG[index] for index in found.missing(LONG)] == sorted(removed)
    found.add(LONG)
    assert (found.row_finished(0), found.segments(0)) == (True, 0)


def test_an_error_ends_a_row_that_lacks_segments() -> None:
    found = committed(Entry(0, 0, 2, FAILED, 1))
    assert (found.row_failed(0), found.missing(LONG)) == (True, [])


def test_a_row_given_up_as_a_whole_is_finished_and_failed() -> None:
    found = committed(
        Entry(0, 0, 0, IN_PROGRESS, 3), Entry(0, 1, 0, DONE, 3), Entry(0, 0, 1, FAILED, 1)
    )
    assert (found.row_finished(0), found.row_failed(0), found.segments(0)) == (True, True, 0)
    assert found.missing([Entry(0, 2, 0, DONE, 3), Entry(0, 0, 1, DONE, 3)]) == []


def test_what_is_missing_takes_its_own_earlier_entries_into_account() -> None:
    entries = [Entry(0, 0, k, IN_PROGRESS, 1) for k in (0, 1)] + [Entry(0, 0, 1, DONE, 1)]
    assert committed(Entry(0, 0, 0, IN_PROGRESS, 1)).missing(entries) == [1]


def test_asking_what_is_missing_changes_nothing() -> None:
    found = CommittedRows()
    assert found.missing([Entry(0, 0, 0, DONE, 1)]) == [0]
    assert found.rows_finished == 0


@given(st.permutations([(row, sample) for row in range(3) for sample in range(2)]), st.data())
def test_entries_told_twice_and_in_any_order_of_rows_count_once(
    order: list[tuple[int, int]], data: st.DataObject
) -> None:
    entries = [Entry(row, sample, 0, DONE, 2) for row, sample in order]
    found = committed(*entries)
    found.add(data.draw(st.lists(st.sampled_from(entries))))
    assert (found.rows_finished, found.finished(3), found.missing(entries)) == (3, True, [])


@pytest.mark.parametrize(
    ("row", "progress"),
    [
        (OutputRow(0, "a", completion="x", final=False), IN_PROGRESS),
        (OutputRow(0, "a", completion="x", finish_reason="stop"), DONE),
        (OutputRow(0, "a", result=[0.5]), DONE),
        (OutputRow(0, "a", finish_reason="error", error="bad"), FAILED),
        (OutputRow(0, "a", error="bad"), FAILED),
    ],
)
def test_how_an_output_row_stands(row: OutputRow, progress: Progress) -> None:
    assert entry_of(row) == (0, 0, 0, progress, 1)
