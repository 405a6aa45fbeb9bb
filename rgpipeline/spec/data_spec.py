"""The `input:` and `output:` sections: where prompts come from and completions go."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rgpipeline.addresses import plain_address
from rgpipeline.input_formats import FormatName, brings_prompts
from rgpipeline.spec.spec_base import Address, Count, Spec, field


class Columns(Spec):
    """Which input columns mean what."""

    prompt: str | None = field(None, "column of prompt texts", "text", "column")
    messages: str | None = field(
        None, "column of chat messages (role, content)", "messages", "column"
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
        if len(sources) != wanted:
            found = " and ".join(sources) or "none"
            raise ValueError(
                f"{self.format} files bring their own prompts; remove {found}"
                if wanted == 0
                else "exactly one of columns.prompt, columns.messages, columns.prompt_ids and "
                f"template makes the prompt; found {found}"
            )
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

    @field_validator("keep", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) and value != "all" else value
