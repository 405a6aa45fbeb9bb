"""The job file: what a person asks for, validated before anything runs.

Layer 0. Every model is frozen and refuses unknown keys; `rgpipeline.jobfile` reads the YAML,
applies overrides and turns every fault into one message.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rgpipeline.addresses import plain_address

Auto = Literal["auto"]
Address = Annotated[str, AfterValidator(plain_address)]
Count = Annotated[int, Field(ge=1)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
_SECRET = re.compile(
    r"secret|passw|token|credential|authorization|(private|api|account)_?key|connection_string",
    re.IGNORECASE,
)
# A reference to the environment; or, for gcsfs' `token`, a way to find one, or a file with one.
_TELLS_NOTHING = re.compile(
    r"\$\{\w+\}|anon|google_default|cloud|browser|cache|\S+\.json", re.IGNORECASE
)
Fraction = Annotated[float, Field(gt=0.0, le=1.0)]


class Spec(BaseModel):
    """Base of every section: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, field: ValidationInfo) -> Any:
        """YAML's `yes` and `on` are true, which Python would take for 1."""
        if isinstance(value, bool) and _is_number(
            cls.model_fields[field.field_name or ""].annotation
        ):
            raise ValueError(f"should be a number; found {value}")
        return value


class Sampling(Spec):
    """How tokens are drawn; one for the job, with overrides for single rows.

    Order of operations, for every token: logit bias, repetition, presence and frequency
    penalties, temperature, then top-k, top-p and min-p cut the distribution, then one draw.
    """

    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        256, description="tokens to generate at most; null runs until stopped"
    )
    min_tokens: int = Field(0, ge=0, description="end-of-sequence and stops are ignored before it")
    temperature: float = Field(1.0, ge=0.0, le=100.0, description="0 is greedy")
    top_k: int = Field(0, ge=0, description="keep the k most probable tokens; 0 keeps all")
    top_p: Fraction = Field(1.0, description="keep the smallest set with this much probability")
    min_p: float = Field(
        0.0, ge=0.0, lt=1.0, description="drop tokens below this share of the most probable one"
    )
    repetition_penalty: float = Field(
        1.0, gt=0.0, le=100.0, description="divides the logits of tokens seen in prompt or output"
    )
    presence_penalty: float = Field(
        0.0, ge=-100.0, le=100.0, description="subtracted once from every token generated before"
    )
    frequency_penalty: float = Field(
        0.0, ge=-100.0, le=100.0, description="subtracted for every time a token was generated"
    )
    logit_bias: dict[TokenId, float] = Field(
        default_factory=dict, description="token id to a number added to its logit"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="with id, sample and position: every draw")
    n: Annotated[int, Field(ge=1, le=1024)] = Field(1, description="samples of each prompt")
    stop: tuple[str, ...] = Field(
        (),
        description="strings that end a completion; not part of it. One that names a token "
        "without text, such as `<eos>`, is that token's id, too",
    )
    stop_ids: tuple[TokenId, ...] = Field((), description="token ids that end a completion")
    ignore_eos: bool = Field(False, description="go on after the end-of-sequence token")
    logprobs: int = Field(
        0,
        ge=0,
        le=20,
        description="0 none; 1 the sampled token's; k also the k most probable; "
        "task score: 1 adds the token_logprobs column",
    )

    @field_validator("stop", "stop_ids", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | int) else value

    @field_validator("stop_ids", "logit_bias", mode="before")
    @classmethod
    def _yes_is_no_token(cls, value: Any) -> Any:
        """Nor is it one within a list, or as a key."""
        for token in value if isinstance(value, list | tuple | dict) else (value,):
            if isinstance(token, bool):
                raise ValueError(f"{token} is no token id; give whole numbers")
        return value

    @field_validator("stop")
    @classmethod
    def _stops_are_not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not stop for stop in value):
            raise ValueError("a stop string is empty; remove it")
        return value

    @model_validator(mode="after")
    def _min_below_max(self) -> Self:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(
                f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}; lower it"
            )
        return self


class ModelSpec(Spec):
    """Which weights, and how they are held."""

    weights: Address = Field(
        description="Hugging Face or official Flax checkpoint folder (any fsspec URL), or demo"
    )
    tokenizer: Address | None = Field(
        None, description="default: tokenizer.model beside the weights"
    )
    chat_template: str | None = Field(
        None,
        description="a Jinja chat template, or the file or folder it is in; default: the one "
        "beside the weights, else Gemma's turns",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of weights and state; auto is float32 on CPUs, else the checkpoint's"
    )
    quantize: Literal["none", "int8"] = Field(
        "none",
        description="int8 holds weights and attention's state in half the memory of bfloat16",
    )

    @field_validator("chat_template")
    @classmethod
    def _template_or_address(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("is empty; remove it, or give a template or its file")
        return value if value is None or is_template_text(value) else plain_address(value)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every file or folder that is read."""
        template = self.chat_template
        at = None if template is None or is_template_text(template) else template
        return tuple(one for one in (self.weights, self.tokenizer, at) if one is not None)


def is_template_text(template: str) -> bool:
    """Whether a chat template is given as its text, not as the address of its file."""
    return any(mark in template for mark in ("{{", "{%", "{#", "\n"))


class Columns(Spec):
    """Which input columns mean what."""

    prompt: str | None = Field(None, description="column of prompt texts")
    messages: str | None = Field(None, description="column of chat messages (role, content)")
    prompt_ids: str | None = Field(None, description="column of token id lists, taken as they are")
    completion: str | None = Field(None, description="task score: text to score given the prompt")
    id: str | None = Field(
        None, description="column that names the rows; default `id` if there is one, else file#row"
    )
    sampling: str | None = Field(None, description="column of per-row sampling overrides")


class InputSpec(Spec):
    """Where the prompts are."""

    path: tuple[str, ...] = Field(
        description="file, folder, glob or a list of them; any fsspec URL"
    )
    format: Literal["auto", "parquet", "jsonl", "openai-batch"] = Field(
        "auto", description="auto goes by the files' endings"
    )
    columns: Columns = Field(default_factory=Columns)
    template: str | None = Field(
        None, description="text with {column} fields that makes the prompt"
    )
    limit: Count | None = Field(None, description="only the first rows")

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
        if (
            not isinstance(value, dict)
            or value.get("template")
            or value.get("format") == "openai-batch"
        ):
            return value
        columns = value.get("columns") or {}
        if isinstance(columns, dict) and not {"prompt", "messages", "prompt_ids"} & columns.keys():
            return {**value, "columns": {**columns, "prompt": "prompt"}}
        return value

    @model_validator(mode="after")
    def _one_source_of_prompts(self) -> Self:
        columns = [n for n in ("prompt", "messages", "prompt_ids") if getattr(self.columns, n)]
        sources = [f"columns.{name}" for name in columns] + (["template"] if self.template else [])
        wanted = 0 if self.format == "openai-batch" else 1
        if len(sources) != wanted:
            found = " and ".join(sources) or "none"
            raise ValueError(
                "openai-batch files bring their own prompts; remove " + found
                if wanted == 0
                else "exactly one of columns.prompt, columns.messages, columns.prompt_ids and "
                f"template makes the prompt; found {found}"
            )
        return self


class OutputSpec(Spec):
    """Where completions go, and in what shape."""

    path: Annotated[Address, Field(min_length=1)] = Field(description="folder; any fsspec URL")
    keep: Literal["all"] | tuple[str, ...] = Field("all", description="input columns carried along")
    prefix: str = Field("", description="put before the names of the columns we add")
    segment_tokens: Annotated[int, Field(ge=16)] = Field(
        65536, description="a longer completion is published in segments of this many tokens"
    )
    token_ids: bool = Field(False, description="add the completion_ids column")

    @field_validator("keep", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) and value != "all" else value


class EngineSpec(Spec):
    """How a worker's device is used; what rows' bits depend on is settled once for a job."""

    slots: Auto | Count = Field("auto", description="sequences decoded at once, per worker")
    prefill_chunk: Auto | Count = Field(
        "auto", description="tokens of a prompt that go through the model in one call"
    )
    steps_per_dispatch: Auto | Count = Field(
        "auto",
        description="tokens decoded in every slot by one call to the device; no bytes "
        "depend on it, and with auto each worker times its own",
    )


class MeshSpec(Spec):
    """How one worker's chips are divided."""

    data: Auto | Count = Field(
        "auto", description="parts of the slots; auto: all chips that `model` leaves"
    )
    model: Count = Field(
        1,
        description="parts of the weights, each on a chip of its own: for a model that one chip "
        "can't hold; they must divide its heads",
    )


class WorkersSpec(Spec):
    """How many workers, and on what."""

    accelerator: str = Field(
        "auto", description="auto | cpu | gpu | tpu, or a type such as TPU-V6E"
    )
    count: Auto | Count = Field("auto", description="workers; auto: as many as fit, now and later")
    min: Count = Field(1, description="with count auto: ask an autoscaler for so many at least")
    chips: Auto | Count = Field("auto", description="accelerator chips, or CPU cores, per worker")
    mesh: MeshSpec = Field(default_factory=MeshSpec)
    cache: str | None = Field(
        None,
        description="local folder for copies of remote weights, shared by the workers of a host; "
        "null reads them straight into memory",
    )

    @model_validator(mode="after")
    def _min_below_count(self) -> Self:
        if self.count != "auto" and self.min > self.count:
            raise ValueError(f"min {self.min} is above count {self.count}; lower it")
        return self


class FaultsSpec(Spec):
    """What the job puts up with."""

    max_failed_rows: Annotated[int, Field(ge=0)] | None = Field(
        None, description="more rows with an error fail the job; null puts up with any number"
    )
    worker_timeout_s: float = Field(
        300.0, gt=0, description="a worker whose engine makes no progress so long is replaced"
    )
    max_worker_restarts: Annotated[int, Field(ge=0)] | None = Field(
        None, description="more replacements of crashed or hung workers fail the job"
    )


class Job(Spec):
    """One batch generation job, whole."""

    name: str = Field(
        "job",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="of the job, in displays, metrics and parts' footers",
    )
    task: Literal["generate", "score"] = Field(
        "generate", description="write completions, or log-probabilities of given texts"
    )
    model: ModelSpec
    input: InputSpec
    output: OutputSpec
    sampling: Sampling = Field(default_factory=Sampling)
    engine: EngineSpec = Field(default_factory=EngineSpec)
    workers: WorkersSpec = Field(default_factory=WorkersSpec)
    storage_options: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="fsspec options by protocol; ${NAME} reads the environment",
    )
    faults: FaultsSpec = Field(default_factory=FaultsSpec)

    @model_validator(mode="after")
    def _task_fits(self) -> Self:
        if self.input.columns.completion is not None and self.task != "score":
            raise ValueError("input.columns.completion belongs to task: score")
        return self

    @field_validator("storage_options")
    @classmethod
    def _secrets_come_from_the_environment(
        cls, value: dict[str, dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        for path, option in _texts(value):
            told = _TELLS_NOTHING.fullmatch(option)
            if _SECRET.search(path.rpartition(".")[2]) and not told:
                raise ValueError(
                    f"{path} is a secret; write ${{NAME}} and set NAME in the "
                    f"environment of driver and workers"
                )
        return value


def _is_number(annotation: Any) -> bool:
    """Whether a field of this type takes numbers."""
    return annotation in (int, float) or any(map(_is_number, get_args(annotation)))


def _texts(options: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in nested options, and the dotted keys to it."""
    if isinstance(options, dict):
        for key, option in options.items():
            yield from _texts(option, f"{path}.{key}" if path else str(key))
    elif isinstance(options, list):
        for option in options:
            yield from _texts(option, path)
    elif isinstance(options, str):
        yield path, options
