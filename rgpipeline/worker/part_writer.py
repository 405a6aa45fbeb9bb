"""Publishes rows as parts of their shard's log; a row that can't be written becomes an error."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rgpipeline.io.parts import build_part
from rgpipeline.io.readers import take_rows
from rgpipeline.io.shard_rows import InputRows
from rgpipeline.plan import Plan
from rgpipeline.records import OutputRow
from rgpipeline.spec import Job
from rgpipeline.tasks import added_columns
from rgpipeline.tasks.task import RowLabel, error_text
from rgpipeline.worker.row_maker import place_of
from rgpipeline.worker.shard_output import ShardOutput

_log = logging.getLogger(__name__)


class _UnbuildableError(Exception):
    """A part can't be built from these rows."""

    def __init__(self, fault: Exception) -> None:
        super().__init__(str(fault))
        self.fault = fault


@dataclass(frozen=True, slots=True)
class PartWriter:
    """Publishes rows of any shard of a job."""

    job: Job
    plan: Plan
    attempt: str

    def append(self, output: ShardOutput, rows: Sequence[OutputRow]) -> list[OutputRow]:
        """Appends rows to their log; returns those that the log didn't have already.

        They become one part, or several where one would be too large. A row that can't be written
        is published with an `error` instead; if its kept columns are the cause, they become null.
        Raises StoreError, as `ShardLog.append`.
        """
        input = output.input
        assert input is not None, "the input is set with the first batch"
        ordered = sorted(rows, key=lambda row: (row.row, row.sample, row.segment))
        return _append(output, ordered, _Builder(self, output.log.shard, input))


def _append(output: ShardOutput, rows: Sequence[OutputRow], builder: "_Builder") -> list[OutputRow]:
    try:
        return output.log.append(rows, builder.build)
    except _UnbuildableError as error:
        repaired = builder.repaired(rows)
        if repaired != rows:
            return _append(output, repaired, builder)
        if len(rows) == 1:
            raise error.fault from None
    # Each row can be built alone, so all of them together are too large for one part.
    middle = len(rows) // 2
    first = _append(output, rows[:middle], builder)
    return first + _append(output, rows[middle:], builder)


@dataclass(slots=True)
class _Builder:
    """Builds the parts of one shard."""

    writer: PartWriter
    shard: int
    input: InputRows
    without: set[int] = field(default_factory=set)  # rows whose kept columns can't be written

    def build(self, rows: Sequence[OutputRow], part: int) -> bytes:
        """A part's bytes. Raises _UnbuildableError."""
        job, plan = self.writer.job, self.writer.plan
        label = plan.label(job, self.shard, part, self.writer.attempt)
        kept = self.input.table.select(list(plan.kept))
        kept_rows = [None if row.row in self.without else row.row for row in rows]
        try:
            return build_part(take_rows(kept, kept_rows), rows, added_columns(job), label)
        except MemoryError:
            raise
        except Exception as error:
            raise _UnbuildableError(error) from error

    def repaired(self, rows: Sequence[OutputRow]) -> list[OutputRow]:
        """`rows`, with an error in place of each that can't be built (found by bisection)."""
        fault = self._fault(rows)
        if fault is None:
            return list(rows)
        if len(rows) == 1:
            return [self._failed(rows[0], fault)]
        middle = len(rows) // 2
        return self.repaired(rows[:middle]) + self.repaired(rows[middle:])

    def _fault(self, rows: Sequence[OutputRow]) -> Exception | None:
        try:
            self.build(rows, 0)
        except _UnbuildableError as error:
            return error.fault
        return None

    def _failed(self, row: OutputRow, fault: Exception) -> OutputRow:
        label = RowLabel(self.shard, row.row, row.id, place_of(self.input, row.row))
        error = f"its output can't be written ({error_text(fault)})"
        failed = replace(
            row,
            completion=None,
            finish_reason="error",
            completion_tokens=0,
            completion_ids=None,
            logprobs=None,
            result=None,
            final=True,
            error=label.error(error),
        )
        _log.warning("%s", failed.error)
        if self._fault([failed]) is not None:
            self.without.add(row.row)
        return failed
