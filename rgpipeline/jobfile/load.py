"""A job file, with overrides put over it, to a `Job`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from rgpipeline.errors import JobError
from rgpipeline.jobfile.faults import model_in, spec_faults
from rgpipeline.jobfile.overrides import override
from rgpipeline.jobfile.source import parse_yaml, read_text
from rgpipeline.spec import Job
from rgpipeline.text.prompt_template import PromptTemplate


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """Reads a job file and puts `key.sub=value` overrides, values as in YAML, over it.

    Raises JobError naming the file and every fault in it, each with its key.
    """
    mapping = parse_yaml(read_text(Path(path)), str(path))
    if not isinstance(mapping, dict):
        raise JobError(
            f"{path}: holds {_kind(mapping)}; a job is a mapping with the keys "
            f"{', '.join(Job.model_fields)}"
        )
    faults = [fault for text in overrides if (fault := override(mapping, text))]
    keys = [text.partition("=")[0].strip() for text in overrides]
    return _job(mapping, str(path), keys, faults)


def parse_job(mapping: Mapping[str, Any], name: str) -> Job:
    """The job in a mapping; `name` is what errors call it. Raises JobError with every fault."""
    return _job(mapping, name, (), [])


def _job(
    mapping: Mapping[str, Any], name: str, overridden: Sequence[str], faults: list[str]
) -> Job:
    job = None
    try:
        job = Job.model_validate(_without_empty_sections(mapping, Job))
        if job.input.template:
            PromptTemplate(job.input.template)
    except ValidationError as error:
        for fault in spec_faults(error, Job):
            key = fault.partition(": ")[0]
            by_override = any(f"{key}.".startswith(f"{other}.") for other in overridden)
            faults = [*faults, f"--set {fault}" if by_override else f"{name}: {fault}"]
    except JobError as error:
        faults = [*faults, f"{name}: {error}"]
    if faults or job is None:
        raise JobError("\n".join(faults))
    return job


def _without_empty_sections(mapping: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """`sampling:` with nothing below it reads as null in YAML and means its defaults."""
    filled = {str(key): value for key, value in mapping.items()}
    for name, field in model.model_fields.items():
        section = model_in(field.annotation)
        value = filled.get(name, ...)
        if section is not None and (value is None or isinstance(value, dict)):
            filled[name] = _without_empty_sections(value or {}, section)
    return filled


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return "a list" if isinstance(value, list) else f"a single {type(value).__name__}"
