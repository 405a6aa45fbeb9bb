"""The `model:`, `engine:`, `workers:` and `faults:` sections: what computes, and on what."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from rgpipeline.addresses import plain_address
from rgpipeline.spec.spec_base import Address, Auto, Count, NamedUrl, Spec, field


class ModelSpec(Spec):
    """Which weights, and in which precision."""

    weights: Address = field(
        ...,
        "Hugging Face or official Flax checkpoint folder, or a LoRA adapter's (any fsspec URL); "
        "or demo",
        "gs://models/recurrentgemma-2b-it",
    )
    adapter: Address | None = field(
        None,
        "folder of a LoRA adapter as PEFT saves it, merged into the weights as they load",
        "gs://models/recurrentgemma-2b-lora",
    )
    base: Address | None = field(
        None,
        "where weights is an adapter's folder: its base; default: the one that its "
        "adapter_config.json names",
        "hf://google/recurrentgemma-2b",
    )
    tokenizer: Address | None = field(
        None,
        "default: tokenizer.model or tokenizer.json beside the weights",
        "gs://models/tokenizer.model",
    )
    chat_template: str | None = field(
        None,
        "a Jinja chat template, or the file or folder it is in; default: the one "
        "beside the weights, else Gemma's turns",
        "gs://models/chat_template.jinja",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = field(
        "auto", "of weights and state; auto is float32 on CPUs, else the checkpoint's", "bfloat16"
    )
    quantize: Literal["none", "int8"] = field(
        "none", "int8 holds weights and attention's state in half the memory of bfloat16", "int8"
    )

    @field_validator("chat_template")
    @classmethod
    def _template_or_address(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("is empty; remove it, or give a template or its file")
        return value if value is None or is_template_text(value) else plain_address(value)

    def urls(self) -> Iterator[NamedUrl]:
        """Every file or folder that the model is read from."""
        yield NamedUrl("model.weights", self.weights)
        for key in ("adapter", "base", "tokenizer"):
            url = getattr(self, key)
            if url is not None:
                yield NamedUrl(f"model.{key}", url)
        if self.chat_template is not None and not is_template_text(self.chat_template):
            yield NamedUrl("model.chat_template", self.chat_template)


def is_template_text(template: str) -> bool:
    """Whether a chat template is given as text, not by the address of its file."""
    return any(mark in template for mark in ("{{", "{%", "{#", "\n"))


class EngineSpec(Spec):
    """How a worker's device is used; what changes rounding is resolved once for a job."""

    slots: Auto | Count = field(
        "auto", "sequences decoded at once, by each worker", "256", "sequences"
    )
    prefill_chunk: Auto | Count = field(
        "auto", "tokens of a prompt that go through the model in one call", "512", "tokens"
    )
    steps_per_dispatch: Auto | Count = field(
        "auto",
        "tokens decoded in every slot by one call to the device; it changes no "
        "output, and with auto each worker tunes its own",
        "16",
        "steps",
    )


class MeshSpec(Spec):
    """How one worker's chips are divided."""

    data: Auto | Count = field(
        "auto", "parts of the slots; auto: all chips that `model` leaves free", "2", "parts"
    )
    model: Count = field(
        1,
        "parts of the weights, each on a chip of its own: for a model that one chip "
        "can't hold; they must divide its heads",
        "4",
        "parts",
    )


class WorkersSpec(Spec):
    """How many workers, and on what."""

    accelerator: str = field("auto", "auto | cpu | gpu | tpu, or a type such as TPU-V6E", "TPU-V6E")
    count: Auto | Count = field(
        "auto", "workers; auto: as many as fit, now and later", "16", "workers"
    )
    min: Count = field(1, "with count auto: ask an autoscaler for so many at least", "4", "workers")
    chips: Auto | Count = field(
        "auto", "accelerator chips, or CPU cores, per worker", "4", "chips or cores"
    )
    mesh: MeshSpec = Field(default_factory=MeshSpec)
    cache: str | None = field(
        None,
        "local folder for copies of remote weights, shared by the workers of a host; "
        "null reads them straight into memory",
        "/mnt/disk/weights",
    )

    @model_validator(mode="after")
    def _min_below_count(self) -> Self:
        if self.count != "auto" and self.min > self.count:
            raise ValueError(f"min {self.min} is above count {self.count}; lower it")
        return self


class FaultsSpec(Spec):
    """Which failures the job tolerates."""

    max_failed_rows: Annotated[int, Field(ge=0)] | None = field(
        None, "more rows with an error fail the job; null allows any number", "100", "rows"
    )
    worker_timeout_s: float = field(
        300.0,
        "a worker whose engine makes no progress for so long is replaced",
        "600",
        "seconds",
        gt=0,
    )
    max_worker_restarts: Annotated[int, Field(ge=0)] | None = field(
        None, "more replacements of crashed or hung workers fail the job", "50", "restarts"
    )
