"""The `input:` section: where the prompts are, and which columns mean what."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rgpipeline.addresses import plain_address
from rgpipeline.input_formats import FormatName, brings_prompts
from rgpipeline.spec.spec_base import Count, Spec, field

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
        None, "task score: text, or list of texts, to score given the prompt", "answer", "column"
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
        "tasks generate and score: column of addresses of stored states, which the prompts "
        "follow; null for rows that follow none",
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
