"""A whole job: all sections, and the rules across them."""

import re
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rgpipeline.spec.compute_spec import EngineSpec, FaultsSpec, ModelSpec, WorkersSpec
from rgpipeline.spec.data_spec import InputSpec, OutputSpec
from rgpipeline.spec.sampling_spec import Sampling
from rgpipeline.spec.spec_base import NamedUrl, Spec, field

_SECRET = re.compile(
    r"secret|passw|token|credential|authorization|(private|api|account)_?key|connection_string",
    re.IGNORECASE,
)
# Values that are no secret: a reference to the environment; of gcsfs' `token`, a method or a file.
_NO_SECRET = re.compile(
    r"\$\{\w+\}|anon|google_default|cloud|browser|cache|\S+\.json", re.IGNORECASE
)

# Keys that only one task has.
_ONLY_FOR = {"input.columns.completion": "score"}


class Job(Spec):
    """One batch generation job, whole."""

    name: str = field(
        "job",
        "shown in displays, metrics and parts' footers",
        "kjv-demo",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
    )
    task: Literal["generate", "score"] = field(
        "generate", "write completions, or log-probabilities of given texts", "score"
    )
    model: ModelSpec
    input: InputSpec
    output: OutputSpec
    sampling: Sampling = Field(default_factory=Sampling)
    engine: EngineSpec = Field(default_factory=EngineSpec)
    workers: WorkersSpec = Field(default_factory=WorkersSpec)
    storage_options: dict[str, dict[str, Any]] = field(
        {},
        "fsspec options by protocol; ${NAME} reads the environment",
        "{s3: {endpoint_url: 'http://store:9000', key: '${KEY}'}}",
    )
    faults: FaultsSpec = Field(default_factory=FaultsSpec)

    def urls(self) -> Iterator[NamedUrl]:
        """Every file, folder and glob that the job names, each with its key in the job file."""
        yield from (NamedUrl("input.path", path) for path in self.input.path)
        yield NamedUrl("output.path", self.output.path)
        yield from self.model.urls()

    @model_validator(mode="after")
    def _task_fits(self) -> Self:
        for key, task in _ONLY_FOR.items():
            if attrgetter(key)(self) is not None and self.task != task:
                raise ValueError(f"{key} belongs to task: {task}")
        return self

    @field_validator("storage_options")
    @classmethod
    def _secrets_come_from_the_environment(
        cls, value: dict[str, dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        for path, option in _texts(value):
            harmless = _NO_SECRET.fullmatch(option)
            if _SECRET.search(path.rpartition(".")[2]) and not harmless:
                raise ValueError(
                    f"{path} is a secret; write ${{NAME}} and set NAME in the "
                    f"environment of driver and workers"
                )
        return value


def _texts(options: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in nested options, with its dotted keys."""
    if isinstance(options, dict):
        for key, option in options.items():
            yield from _texts(option, f"{path}.{key}" if path else str(key))
    elif isinstance(options, list):
        for option in options:
            yield from _texts(option, path)
    elif isinstance(options, str):
        yield path, options
