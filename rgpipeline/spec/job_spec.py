"""A whole job: its output, all other sections, and the rules across them."""

import re
from collections.abc import Iterator
from operator import attrgetter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rgpipeline.spec.compute_spec import EngineSpec, FaultsSpec, ModelSpec, WorkersSpec
from rgpipeline.spec.input_spec import InputSpec
from rgpipeline.spec.sampling_spec import Sampling
from rgpipeline.spec.spec_base import Address, NamedUrl, Spec, field


class OutputSpec(Spec):
    """Where completions go, and in which form."""

    path: Annotated[Address, Field(min_length=1)] = field(
        ..., "folder; any fsspec URL", "gs://out/run-7"
    )
    keep: Literal["all"] | tuple[str, ...] = field(
        "all", "input columns to keep in the output", "[url, title]", "columns"
    )
    prefix: str = field("", "put before the names of the columns that the job adds", "rg_")
    segment_tokens: Annotated[int, Field(ge=16)] = field(
        65536, "a longer completion is published in segments of this many tokens", "16384", "tokens"
    )
    token_ids: bool = field(False, "add the completion_ids column", "true")
    states: Literal["last"] | None = field(
        None,
        "task generate: last stores each sample's state at its end, which other rows can follow, "
        "and adds the state column",
        "last",
    )
    messages: bool = field(
        False,
        "task generate: add the messages column, each chat with the model's answers; assistant "
        "messages whose content is null are answered, too, turn by turn",
        "true",
    )

    @field_validator("keep", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) and value != "all" else value


_SECRET = re.compile(
    r"secret|passw|token|credential|authorization|(private|api|account)_?key|connection_string",
    re.IGNORECASE,
)
# Values that are no secret: a reference to the environment; of gcsfs' `token`, a method or a file.
_NO_SECRET = re.compile(
    r"\$\{\w+\}|anon|google_default|cloud|browser|cache|\S+\.json", re.IGNORECASE
)


class EmbedSpec(Spec):
    """How a prompt's final hidden values become its embedding."""

    pooling: Literal["mean", "last"] = field(
        "mean", "over the prompt's tokens: their mean, or the last token's values", "last"
    )
    normalize: bool = field(True, "divide by the Euclidean norm, so that it is 1", "false")


# Keys that only some tasks have.
_ONLY_FOR = {
    "input.columns.completion": ("score",),
    "input.columns.sampling": ("generate", "score"),
    "sampling": ("generate", "score"),
    "embed": ("embed",),
    "input.columns.state": ("generate", "score"),
    "output.states": ("generate",),
    "output.messages": ("generate",),
}


class Job(Spec):
    """One batch generation job, whole."""

    name: str = field(
        "job",
        "shown in displays, metrics and parts' footers",
        "kjv-demo",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
    )
    task: Literal["generate", "score", "embed"] = field(
        "generate",
        "write completions, log-probabilities of given texts, or embeddings of prompts",
        "score",
    )
    model: ModelSpec
    input: InputSpec
    output: OutputSpec
    sampling: Sampling = Field(default_factory=Sampling)
    embed: EmbedSpec = Field(default_factory=EmbedSpec)
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
        for key, tasks in _ONLY_FOR.items():
            value = attrgetter(key)(self)
            given = value is not None if isinstance(value, str | None) else value != type(value)()
            if given and self.task not in tasks:
                raise ValueError(f"{key} belongs to task: {' or '.join(tasks)}")
        if self.output.messages and self.input.columns.messages is None:
            raise ValueError("output.messages is for chats; it needs input.columns.messages")
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
