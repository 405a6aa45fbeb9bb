"""The actor of a Ray Data step: one engine, and the batches that Ray Data calls it with.

Imports no jax: what jax reads when it is imported must be set first.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pyarrow as pa
import ray

from rgpipeline.engine.activity import Activity
from rgpipeline.model.weights.model_source import source_of
from rgpipeline.plan import Plan
from rgpipeline.runtime.cluster import Node, read_cluster
from rgpipeline.runtime.placement import Placement
from rgpipeline.runtime.process_setup import prepare_for_jax
from rgpipeline.runtime.ray_workers import engine_factory
from rgpipeline.spec import Job
from rgpipeline.worker.row_service import RowService
from rgpipeline.worker.running_sample import WHOLE, CompletionFormat
from rgpipeline.worker.table_rows import TableRows
from rgpipeline.worker.worker_setup import fit_together, open_prompts

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)  # by identity: Ray Data hashes it
class ProcessorJob:
    """What an actor does, and where."""

    job: Job
    plan: Plan  # without files
    placement: Placement


class ModelActor:
    """Adds a task's columns to batches of rows.

    Ray Data calls it with several batches at once; the rows of all share the engine's slots.
    """

    def __init__(self, given: ProcessorJob) -> None:
        job = given.job
        chips = ray.get_runtime_context().get_accelerator_ids().get("TPU", ())
        # The lock on its cores is held for as long as the actor lives.
        self._cores = prepare_for_jax(given.placement, _own_node(), [str(chip) for chip in chips])
        source = source_of(job)
        prompts = open_prompts(job, given.plan, source)
        open_engine = engine_factory(job, given.placement, Activity())
        opened = open_engine(source, job.engine)
        for warning in fit_together(opened.loop, job, prompts):
            _log.warning("%s", warning)
        format = CompletionFormat(WHOLE, job.output.token_ids, opened.settings.dtype)
        self._rows = TableRows(job, prompts, opened.loop.check_tokens)
        self._service = RowService(opened.loop, prompts.tokenizer, format)

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        """One batch, as soon as all of its rows are done."""
        call = self._service.next_call()
        # Tokenizing takes a while, in which other batches' calls go on.
        work, refused = await asyncio.to_thread(self._rows.make, call, batch)
        rows = await asyncio.wrap_future(self._service.submit(call, work, refused))
        yield self._rows.output(batch, rows)


def _own_node() -> Node | None:
    here = ray.get_runtime_context().get_node_id()
    return next((node for node in read_cluster().nodes if node.id == here), None)
