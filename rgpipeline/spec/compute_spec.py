"""The sections that say what computes: model, engine, workers, and the faults they may have."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from rgpipeline.addresses import plain_address
from rgpipeline.spec.spec_base import Address, Auto, Count, Spec


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
