"""`fit JOB.yaml`: what a job will take on TPUs, from its input and the compiler's bounds."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rgpipeline.errors import UserError
from rgpipeline.fit.chips import chips_in
from rgpipeline.fit.estimate import FitRequest, fit
from rgpipeline.fit.report import FitReport
from rgpipeline.fit.work import Work, count_work
from rgpipeline.spec import Job
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.wording import count, counted, duration

_HOSTS = (1, 4, 16, 64)


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
        """The report, and the job beneath it."""
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
        counted_of = "" if work.rows_counted == work.rows else f" (from {count(work.rows_counted)})"
        told = f"{counted(work.rows, 'row')}{counted_of}: {count(work.prompt_tokens)} prompt tokens"
        if work.unlimited:
            return [told, "some rows have no max_tokens, so there is no telling how long it takes"]
        completion = f"at most {count(work.completion_tokens)} completion tokens"
        if not self.report.fits:
            return [f"{told}, {completion}"]
        hours = self.chip_seconds / 3600
        device = f"{hours:,.1f} device-hours" if hours >= 1 else duration(self.chip_seconds)
        return [f"{told}, {completion}; at the bounds, {device} of one chip"]


def fit_job(
    job: Job,
    topology: str,
    *,
    slots: int | Literal["auto", "max"] | None = None,
    dump_hlo: Path | None = None,
) -> JobEstimate:
    """Counts the job's tokens and compiles its programs for a worker on `topology`.

    Args:
      job: as it would be run: its model, engine and mesh count.
      topology: the chips of one worker.
      slots: in place of the job's own `engine.slots`.
      dump_hlo: as in `FitRequest`.

    Raises:
      UserError: input, model, topology or mesh can't be used.
      StoreError: a store of the job's input or model doesn't answer.
      RgpipelineError: the compiler failed.
    """
    request = job_request(job, topology)
    places = [*job.input.path, job.model.weights, job.model.tokenizer]
    check_reachable(places, job.storage_options)
    work = count_work(job)
    report = fit(replace(request, slots=slots or request.slots, dump_hlo=dump_hlo))
    hosts = _HOSTS if job.workers.count == "auto" else (job.workers.count,)
    return JobEstimate(work, report, hosts)


def job_request(job: Job, topology: str) -> FitRequest:
    """What a job's worker on `topology` would compile."""
    return FitRequest(
        model=job.model.weights,
        topology=topology,
        slots=job.engine.slots,
        dtype=job.model.dtype,
        quantize=job.model.quantize,
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
