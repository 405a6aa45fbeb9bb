"""`fit JOB.yaml`: how long a job takes at least, from its input and the compiler's bounds."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rgpipeline.errors import RowError, UserError
from rgpipeline.fit.estimate import FitRequest, fit
from rgpipeline.fit.fit_report import FitReport
from rgpipeline.fit.topology import chips_in
from rgpipeline.model.weights.model_source import source_of
from rgpipeline.plan import Plan, make_plan
from rgpipeline.records import Shard
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.tasks import task_of
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.task import RowLabel, RowWork, Task
from rgpipeline.wording import count, counted, duration
from rgpipeline.worker.worker_setup import open_prompts

# Estimates are given for so many hosts where the job does not say how many.
_HOSTS = (1, 4, 16, 64)
# How many rows are tokenized; the others are taken to be like them. The mean length of a thousand
# texts is within a few percent of the mean of all.
_ROWS = 1024
_SHARDS = 16  # the least number of shards that these rows come from


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens of a whole job; exact if every row was counted."""

    rows: int
    rows_counted: int
    prompt_tokens: int
    completion_tokens: int  # at most: as if every sample ran to its max_tokens
    unlimited: bool  # some rows have no max_tokens; `completion_tokens` leaves them out


@dataclass(frozen=True, slots=True)
class JobEstimate:
    """A job's work, and how long it takes at the bounds: no run can be faster."""

    work: Work
    report: FitReport
    hosts: tuple[int, ...]

    @property
    def chip_seconds(self) -> float:
        """Of all chips together."""
        assert self.report.prefill is not None
        assert self.report.decode is not None
        return (
            self.work.prompt_tokens / self.report.prefill.tokens_per_second_bound
            + self.work.completion_tokens / self.report.decode.tokens_per_second_bound
        )

    def seconds_on(self, hosts: int) -> float:
        """On so many workers, each with the chips of the topology."""
        return self.chip_seconds / (hosts * self.report.chips)

    def render(self) -> str:
        """The report, then the job's tokens and times."""
        lines = [self.report.render(), "", *self._work_lines()]
        if self.report.fits and not self.work.unlimited:
            lines += [
                f"at best {duration(self.seconds_on(n))} on {counted(n, 'host')} of "
                f"{self.report.topology}"
                for n in self.hosts
            ]
        return "\n".join(lines)

    def _work_lines(self) -> list[str]:
        work = self.work
        sampled = "" if work.rows_counted == work.rows else f" (from {count(work.rows_counted)})"
        total = f"{counted(work.rows, 'row')}{sampled}: {count(work.prompt_tokens)} prompt tokens"
        if work.unlimited:
            return [total, "some rows have no max_tokens, so there is no telling how long it takes"]
        total = f"{total}, at most {count(work.completion_tokens)} completion tokens"
        if not self.report.fits:
            return [total]
        hours = self.chip_seconds / 3600
        device = f"{hours:,.1f} device-hours" if hours >= 1 else duration(self.chip_seconds)
        return [f"{total}; at the bounds, {device} of one chip"]


def fit_job(
    job: Job,
    topology: str,
    *,
    slots: int | Literal["auto", "max"] | None = None,
    structured: bool = False,
    dump_hlo: Path | None = None,
) -> JobEstimate:
    """Counts the job's tokens and compiles its programs for a worker on `topology`.

    Args:
      job: its model, engine and mesh are used as a run would use them.
      topology: the chips of one worker.
      slots: replaces the job's own `engine.slots`.
      structured, dump_hlo: as in `FitRequest`.

    Raises:
      UserError: input, model, topology or mesh can't be used.
      StoreError: a store of the job's input or model doesn't answer.
      RgpipelineError: the compiler failed.
    """
    request = job_request(job, topology)
    read = (url for key, url in job.urls() if key != "output.path")
    check_reachable(read, job.storage_options)
    work = count_work(job)
    slots = slots or request.slots
    report = fit(replace(request, slots=slots, structured=structured, dump_hlo=dump_hlo))
    hosts = _HOSTS if job.workers.count == "auto" else (job.workers.count,)
    return JobEstimate(work, report, hosts)


def job_request(job: Job, topology: str) -> FitRequest:
    """What a job's worker on `topology` would compile."""
    return FitRequest(
        model=job.model,
        topology=topology,
        slots=job.engine.slots,
        mesh=_mesh(job, topology),
        engine={
            "prefill_chunk": job.engine.prefill_chunk,
            "steps_per_dispatch": job.engine.steps_per_dispatch,
        },
        storage_options=job.storage_options,
    )


def _mesh(job: Job, topology: str) -> tuple[int, int]:
    chips, mesh = chips_in(topology), job.workers.mesh
    if chips % mesh.model:
        raise UserError(
            f"workers.mesh.model: {mesh.model} does not divide the {chips} chips of {topology}"
        )
    return (chips // mesh.model if mesh.data == "auto" else mesh.data, mesh.model)


def count_work(job: Job) -> Work:
    """Reads the job's input and tokenizes rows from all over it; writes nothing.

    A prompt that is sampled several times counts once: its state is copied.

    Raises:
      UserError: the input, its columns or the tokenizer can't be used.
    """
    plan, source = make_plan(job), source_of(job)
    prompts = open_prompts(job, plan, source)
    counter = _Counter(task_of(job, plan.choices), prompts)
    shards = max(_SHARDS, _ROWS * len(plan.shards) // max(1, plan.rows))
    chosen = plan.shards[:: max(1, len(plan.shards) // shards)]
    for shard in chosen:
        counter.add(plan, shard, source.options, -(-_ROWS // len(chosen)))
    if not counter.rows:
        raise UserError(f"no row of the input can be used; the first fault: {counter.fault}")
    scale = plan.rows / counter.rows
    return Work(
        rows=plan.rows,
        rows_counted=counter.rows,
        prompt_tokens=round(counter.prompt_tokens * scale),
        completion_tokens=round(counter.completion_tokens * scale),
        unlimited=counter.unlimited,
    )


class _Counter:
    """Adds up the tokens of rows."""

    def __init__(self, task: Task, prompts: Prompts) -> None:
        self.rows = self.prompt_tokens = self.completion_tokens = 0
        self.unlimited = False
        self.fault = ""
        self._task, self._prompts = task, prompts

    def add(self, plan: Plan, shard: Shard, options: StorageOptions, most: int) -> None:
        """Counts up to `most` rows, spread evenly over the shard."""
        input = plan.read(shard, options)
        for row in range(0, shard.rows, -(-shard.rows // most)):
            try:
                label = RowLabel(shard.index, row, "", "")
                self._add_row(self._task.work(label, input.values(row), self._prompts))
            except RowError as error:
                self.fault = self.fault or str(error)

    def _add_row(self, work: list[RowWork]) -> None:
        self.rows += 1
        self.prompt_tokens += len(work[0].request.tokens)
        for one in work:
            if one.max_tokens is None:
                self.unlimited = True
            else:
                self.completion_tokens += one.max_tokens
