"""The Hugging Face `config.json` of model type `recurrent_gemma`: reading it and writing it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from rgpipeline.errors import WeightsError
from rgpipeline.model.config import ATTENTION, GRIFFIN_CYCLE, RECURRENT, GriffinConfig, cycle

Fields = Mapping[str, object]

_MODEL_TYPES = ("recurrent_gemma", "griffin", "hawk")

# What an absent key means: the defaults of transformers' RecurrentGemmaConfig (whose
# intermediate_size is not that of the released 2B).
_DEFAULTS = GriffinConfig(256_000, 2560, 7680 // 2, 10, 2560, cycle(GRIFFIN_CYCLE, 26))

# Constants of the arithmetic: a checkpoint with other values is another model.
_FIXED: Fields = {
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
}
_FIXED_ATTENTION: Fields = {
    "rope_theta": 10_000.0,
    "rope_type": "default",
    "partial_rotary_factor": 0.5,
    "attention_bias": False,
}
_BLOCK_TYPES = ("block_types", "_block_types", "layers_block_type")  # one key, over the years


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


# The description is what a message says the value must be.
Size = Annotated[int, Field(gt=0, description="a positive whole number")]
Flag = Annotated[bool, Field(description="true or false")]
SoftCap = Annotated[float, Field(ge=0, allow_inf_nan=False, description="a number, 0 or more")]
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0)]],
    Field(min_length=1, description="a token id"),
    BeforeValidator(_as_list),
]
BlockTypes = Annotated[
    list[Literal["recurrent", "attention"]],
    Field(min_length=1, description=f"a list of '{RECURRENT}' and '{ATTENTION}'"),
]


class HfConfig(BaseModel):
    """The fields that decide the model, under the names and in the units of the file."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size  # of both branches of the MLP
    num_hidden_layers: Size
    num_attention_heads: Size
    lru_width: Size = 0  # as wide as the model
    block_types: BlockTypes  # repeated over the layers
    num_key_value_heads: Size = 0  # as many as there are query heads
    attention_window_size: Size
    conv1d_width: Size
    logits_soft_cap: SoftCap
    embeddings_scale_by_sqrt_dim: Flag
    tie_word_embeddings: Flag
    bos_token_id: TokenIds
    eos_token_id: TokenIds
    pad_token_id: TokenIds

    @field_validator("num_key_value_heads", "attention_window_size", mode="wrap")
    @classmethod
    def _unused_by_a_hawk(
        cls, value: object, check: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        """A model without attention may say anything about it."""
        try:
            return check(value)
        except ValidationError:
            if ATTENTION in info.data.get("block_types", [ATTENTION]):
                raise
            return _DEFAULTS.window  # any size will do

    def griffin(self) -> GriffinConfig:
        """The model's configuration."""
        heads, block_types = self.num_attention_heads, tuple(self.block_types)
        return GriffinConfig(
            vocab_size=self.vocab_size,
            width=self.hidden_size,
            mlp_width=self.intermediate_size // 2,
            heads=heads,
            lru_width=self.lru_width or self.hidden_size,
            block_types=cycle(block_types, self.num_hidden_layers),
            window=self.attention_window_size,
            logits_soft_cap=self.logits_soft_cap,
            scale_embeddings=self.embeddings_scale_by_sqrt_dim,
            tied=self.tie_word_embeddings,
            conv_width=self.conv1d_width,
            bos_id=self.bos_token_id[0],
            eos_ids=tuple(dict.fromkeys(self.eos_token_id)),
            pad_id=self.pad_token_id[0],
            kv_heads=(self.num_key_value_heads or heads) if ATTENTION in block_types else 1,
        )


def parse(
    fields: Fields,
    where: str,
    *,
    generation: Fields | None = None,
    inferred: GriffinConfig | None = None,
) -> GriffinConfig:
    """The configuration that the fields of a parsed `config.json` describe.

    Args:
        fields: The JSON object. An absent key, or a null, means transformers' default, except
            that a null `logits_soft_cap` is none.
        where: The file's name, for messages.
        generation: The `generation_config.json` beside it; as in transformers, its end tokens
            take precedence.
        inferred: What absent keys mean instead, where the tensors tell.

    Raises:
        WeightsError: It is not a Griffin, or contradicts something. The message lists all faults.
    """
    model_type = fields.get("model_type")
    if model_type not in _MODEL_TYPES:
        raise WeightsError(
            f"{where}: model_type {model_type!r} is not a Griffin model; "
            f"rgpipeline runs model_type 'recurrent_gemma' only"
        )
    given = _given(fields, generation or {}, inferred)
    try:
        parsed = HfConfig.model_validate(given)
    except ValidationError as error:
        keys = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors())
        faults = [
            f"{key} must be {HfConfig.model_fields[key].description}, not {given[key]!r}"
            for key in keys
        ]
    else:
        faults = _contradictions(fields, parsed, inferred)
    if faults:
        raise WeightsError(f"{where}:\n  " + "\n  ".join(faults))
    return parsed.griffin()


def _given(fields: Fields, generation: Fields, inferred: GriffinConfig | None) -> dict[str, object]:
    """Every field of `HfConfig`: the file's, or what an absent one means."""
    given = hf_fields(inferred or _DEFAULTS)
    if inferred is None:
        given["lru_width"] = given["num_key_value_heads"] = None
    given |= {key: value for key, value in fields.items() if value is not None}
    patterns = (fields[key] for key in _BLOCK_TYPES if fields.get(key) is not None)
    given["block_types"] = next(patterns, given["block_types"])
    if fields.get("logits_soft_cap", 0) is None:
        given["logits_soft_cap"] = 0.0
    if generation.get("eos_token_id") is not None:
        given["eos_token_id"] = generation["eos_token_id"]
    return {key: value for key, value in given.items() if value is not None}


def _contradictions(fields: Fields, parsed: HfConfig, inferred: GriffinConfig | None) -> list[str]:
    """Fields that contradict each other, or the arithmetic; one sentence each."""
    config = parsed.griffin()
    has_attention = ATTENTION in config.block_types
    faults = shape_faults(config)
    if parsed.intermediate_size % 2:
        faults.append(
            f"intermediate_size {parsed.intermediate_size} is odd; it counts both MLP branches"
        )
    if inferred is not None and not config.tied:
        faults.append("tie_word_embeddings False: an official checkpoint has no head of its own")
    given = dict(fields)
    for nested in ("rope_scaling", "rope_parameters"):
        inner = fields.get(nested)
        given |= inner if isinstance(inner, dict) else {}
    faults += [
        f"{key} {given[key]!r}: only {value!r} is supported"
        for key, value in {**_FIXED, **(_FIXED_ATTENTION if has_attention else {})}.items()
        if given.get(key) is not None and given[key] != value
    ]
    head_dim = fields.get("head_dim")
    if has_attention and head_dim not in (None, config.head_dim):
        faults.append(
            f"head_dim {head_dim!r}: only hidden_size / num_attention_heads, "
            f"{config.head_dim}, is supported"
        )
    return faults


def shape_faults(config: GriffinConfig) -> list[str]:
    """What is impossible about these sizes, one sentence each."""
    divided = (
        (ATTENTION, "hidden_size", config.width),
        (RECURRENT, "lru_width", config.lru_width),
    )
    faults = [
        f"{name} {size} is not a multiple of the {config.heads} heads"
        for kind, name, size in divided
        if kind in config.block_types and size % config.heads
    ]
    if ATTENTION in config.block_types and config.heads % config.kv_heads:
        faults.append(f"num_key_value_heads {config.kv_heads} does not divide {config.heads} heads")
    if ATTENTION in config.block_types and not faults and config.head_dim % 4:
        faults.append(f"head width {config.head_dim} is not a multiple of 4, as RoPE needs")
    if config.conv_width < 2:
        faults.append(f"conv1d_width {config.conv_width} is less than 2")
    return faults


def hf_fields(config: GriffinConfig) -> dict[str, Any]:
    """The `config.json` from which `parse` makes this configuration."""
    return {
        "architectures": ["RecurrentGemmaForCausalLM"],
        "model_type": "recurrent_gemma",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": 2 * config.mlp_width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "lru_width": config.lru_width,
        "block_types": list(config.block_types),
        "attention_window_size": config.window,
        "conv1d_width": config.conv_width,
        "logits_soft_cap": config.logits_soft_cap,
        "embeddings_scale_by_sqrt_dim": config.scale_embeddings,
        "hidden_activation": "gelu_pytorch_tanh",
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": config.tied,
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.eos_ids) if len(config.eos_ids) > 1 else config.eos_ids[0],
        "pad_token_id": config.pad_id,
    }
