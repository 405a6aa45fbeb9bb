"""Options of a job file that its task doesn't use, although they are set."""

from collections.abc import Iterator

from rgpipeline.spec import Job, Sampling
from rgpipeline.tasks import task_of

_OF_TEXTS = ("segment_tokens", "token_ids")  # keys of `output` about completions


def unused_warnings(job: Job) -> list[str]:
    """A warning that names them; empty if there are none.

    They are no error: a job file may be made of another task's, or of one template for all.
    """
    unused = list(_unused(job))
    if not unused:
        return []
    used = " and ".join(task_of(job).sampling_keys)
    rest = f"; of sampling, it uses {used} alone" if used else ""
    return [f"task {job.task} doesn't use {', '.join(unused)}{rest}"]


def _unused(job: Job) -> Iterator[str]:
    task = task_of(job)
    for name, info in Sampling.model_fields.items():
        if name not in task.sampling_keys and getattr(job.sampling, name) != info.default:
            yield f"sampling.{name}"
    for name in () if task.writes_texts else _OF_TEXTS:
        if getattr(job.output, name) != type(job.output).model_fields[name].default:
            yield f"output.{name}"
