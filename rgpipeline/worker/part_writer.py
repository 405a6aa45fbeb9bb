"""Rows to parts of their shard's log; a row that no part can hold becomes an error."""

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
    """No part can be built of some rows."""

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
        """Appends rows to their log as one part; returns those it didn't hold already.

        A row that can't be written is published with an `error` instead, its kept columns null
        where they are to blame. Raises StoreError, as `ShardLog.append`.
        """
        input = output.input
        assert input is not None, "rows come from an input"
        ordered = sorted(rows, key=lambda row: (row.row, row.sample, row.segment))
        return _append(output, ordered, _Builder(self, output.log.shard, input))


def _append(output: ShardOutput, rows: Sequence[OutputRow], builder: "_Builder") -> list[OutputRow]:
    try:
        return output.log.append(rows, builder.build)
    except _UnbuildableError as error:
        mended = builder.mended(rows)
        if mended != rows:
            return _append(output, mended, builder)
        if len(rows) == 1:
            raise error.fault from None
    # Each can be built alone, and all together can't: they are too large for one part.
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
        places = [None if row.row in self.without else row.row for row in rows]
        try:
            return build_part(take_rows(kept, places), rows, added_columns(job), label)
        except MemoryError:
            raise
        except Exception as error:
            raise _UnbuildableError(error) from error

    def mended(self, rows: Sequence[OutputRow]) -> list[OutputRow]:
        """`rows`, with an error in place of each that can't be built; found by halving."""
        fault = self._fault(rows)
        if fault is None:
            return list(rows)
        if len(rows) == 1:
            return [self._given_up(rows[0], fault)]
        middle = len(rows) // 2
        return self.mended(rows[:middle]) + self.mended(rows[middle:])

    def _fault(self, rows: Sequence[OutputRow]) -> Exception | None:
        try:
            self.build(rows, 0)
        except _UnbuildableError as error:
            return error.fault
        return None

    def _given_up(self, row: OutputRow, fault: Exception) -> OutputRow:
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
