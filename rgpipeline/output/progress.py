"""How far each shard is, from the footers of its parts."""

from collections.abc import Mapping
from dataclasses import dataclass

from rgpipeline.io.committed_rows import Cover
from rgpipeline.io.parts import PartFooter, part_name, part_names, read_footers
from rgpipeline.plan.record import Plan
from rgpipeline.records import Shard
from rgpipeline.storage.store import Store


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """What a shard's log holds."""

    shard: int
    rows: int  # that it has in all
    rows_done: int = 0  # finished without an error
    rows_failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    parts: int = 0
    absent: tuple[str, ...] = ()  # parts below the highest that are not there
    repeating: tuple[str, ...] = ()  # parts with rows that an earlier part holds

    @property
    def finished(self) -> bool:
        """Whether all its rows are published, each of them whole."""
        return self.rows_done + self.rows_failed == self.rows


def read_progress(store: Store, plan: Plan) -> list[ShardProgress]:
    """Every shard's progress, by its index. Lists once, and reads one footer for each part.

    Raises OutputError for a part that is damaged, or of another job.
    """
    logs: dict[int, dict[int, PartFooter]] = {shard.index: {} for shard in plan.shards}
    for footer in read_footers(store, part_names(store), plan.fingerprint).values():
        logs[footer.shard][footer.part] = footer
    return [_progress(shard, logs[shard.index]) for shard in plan.shards]


def _progress(shard: Shard, log: Mapping[int, PartFooter]) -> ShardProgress:
    """`log`: the footers by the parts' numbers, ascending."""
    cover, repeating = Cover(), []
    for number, footer in log.items():
        held = [entry for entry in footer.entries if not cover.add_one(entry)]
        if held:
            repeating.append(part_name(shard.index, number))
    return ShardProgress(
        shard.index,
        shard.rows,
        rows_done=cover.rows_finished - cover.rows_failed,
        rows_failed=cover.rows_failed,
        prompt_tokens=sum(footer.prompt_tokens for footer in log.values()),
        completion_tokens=sum(footer.completion_tokens for footer in log.values()),
        parts=len(log),
        absent=tuple(part_name(shard.index, n) for n in range(max(log, default=0)) if n not in log),
        repeating=tuple(repeating),
    )
