"""How far each shard is, from the footers of its parts."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rgpipeline.io.cover import Cover
from rgpipeline.io.parts import PartFooter, parse_part_name, part_names, read_footer
from rgpipeline.io.store import Store
from rgpipeline.plan.record import Plan
from rgpipeline.records import Shard

_THREADS = 32  # waiting for the store, not working


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

    @property
    def finished(self) -> bool:
        return self.rows_done + self.rows_failed == self.rows


def read_progress(store: Store, plan: Plan) -> list[ShardProgress]:
    """Every shard's progress, by its index. Reads one footer for each part."""
    parts: dict[int, list[str]] = {shard.index: [] for shard in plan.shards}
    for name in part_names(store):
        place = parse_part_name(name)
        if place is not None and place[0] in parts:
            parts[place[0]].append(name)

    def progress(shard: Shard) -> ShardProgress:
        footers = (read_footer(store, name) for name in parts[shard.index])
        return _summed(ShardProgress(shard.index, shard.rows), footers)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(progress, plan.shards))


def _summed(shard: ShardProgress, footers: Iterable[PartFooter]) -> ShardProgress:
    cover = Cover()
    prompt = completion = parts = 0
    for footer in footers:
        cover.add(footer.entries)
        prompt += footer.prompt_tokens
        completion += footer.completion_tokens
        parts += 1
    done = cover.rows_finished - cover.rows_failed
    return ShardProgress(
        shard.shard, shard.rows, done, cover.rows_failed, prompt, completion, parts
    )
