"""A whole job: its input and output, all other sections, and the rules across them."""

import re
from collections.abc import Iterator
from operator import attrgetter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rgpipeline.addresses import plain_address
from rgpipeline.input_formats import FormatName, brings_prompts
from rgpipeline.spec.compute_spec import EngineSpec, FaultsSpec, ModelSpec, WorkersSpec
from rgpipeline.spec.sampling_spec import Sampling
from rgpipeline.spec.spec_base import Address, Count, NamedUrl, Spec, field

SpecialTokens = Literal["auto", "parse", "text"]


class Columns(Spec):
    """Which input columns mean what."""

    prompt: str | None = field(None, "column of prompt texts", "text", "column")
    messages: str | None = field(
        None, "column of chat messages (role, content)", "messages", "column"
    )
    tools: str | None = field(
        None,
        "column of the tools that a chat's model may call (JSON schemas, as OpenAI's)",
        "tools",
        "column",
    )
    prompt_ids: str | None = field(
        None, "column of token id lists, taken as they are", "ids", "column"
    )
    completion: str | None = field(
        None, "task score: text to score given the prompt", "answer", "column"
    )
    id: str | None = field(
        None,
        "column that names the rows; default `id` if there is one, else file#row",
        "url",
        "column",
    )
    sampling: str | None = field(None, "column of per-row sampling overrides", "options", "column")
    state: str | None = field(
        None,
        "task generate: column of addresses of stored states, which the prompts follow; null for "
        "rows that follow none",
        "state",
        "column",
    )


class InputSpec(Spec):
    """Where the prompts are."""

    path: tuple[str, ...] = field(
        ..., "file, folder, glob or a list of them; any fsspec URL", "s3://prompts/*.parquet"
    )
    format: FormatName = field("auto", "auto goes by the files' endings", "openai-batch")
    columns: Columns = Field(default_factory=Columns)
    template: str | None = field(
        None, "text with {column} fields that makes the prompt", '"Summarise:\\n{text}\\n"'
    )
    special_tokens: SpecialTokens = field(
        "auto",
        "control tokens that prompts and chats spell: auto reads those that the tokenizer's file "
        "looks for, parse all of them (BOS and EOS, too), text none of users' texts",
        "text",
    )
    bos: bool = field(True, "put BOS before texts and chats that don't begin with it", "false")
    limit: Count | None = field(None, "use only the first rows", "1000", "rows")

    @field_validator("path", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("path")
    @classmethod
    def _paths_are_not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any(not path.strip() for path in value):
            raise ValueError("no path given; name a file, a folder or a glob")
        return tuple(map(plain_address, value))

    @model_validator(mode="before")
    @classmethod
    def _prompt_is_the_default_column(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("template"):
            return value
        if brings_prompts(str(value.get("format"))):
            return value
        columns = value.get("columns") or {}
        if isinstance(columns, dict) and not {"prompt", "messages", "prompt_ids"} & columns.keys():
            return {**value, "columns": {**columns, "prompt": "prompt"}}
        return value

    @model_validator(mode="after")
    def _one_source_of_prompts(self) -> Self:
        columns = [n for n in ("prompt", "messages", "prompt_ids") if getattr(self.columns, n)]
        sources = [f"columns.{name}" for name in columns] + (["template"] if self.template else [])
        wanted = 0 if brings_prompts(self.format) else 1
        if wanted == 0 and self.columns.state:
            sources.append("columns.state")
        if len(sources) != wanted:
            found = " and ".join(sources) or "none"
            raise ValueError(
                f"{self.format} files bring their own prompts; remove {found}"
                if wanted == 0
                else "exactly one of columns.prompt, columns.messages, columns.prompt_ids and "
                f"template makes the prompt; found {found}"
            )
        texts = self.columns.prompt_ids is None or self.columns.completion is not None
        if not texts and (self.special_tokens != "auto" or not self.bos):
            raise ValueError(
                "special_tokens and bos are for texts; prompt_ids are taken as they are, so remove "
                "them"
            )
        if self.columns.tools is not None and self.columns.messages is None and wanted:
            raise ValueError("columns.tools is for chats; it needs columns.messages")
        return self


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
    "input.columns.state": ("generate",),
    "output.states": ("generate",),
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
