"""PEFT's `adapter_config.json` of a LoRA: the fields that decide what is merged."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rgpipeline.errors import WeightsError

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"

# Keys that make a LoRA something that can't be merged by its matrices alone.
_UNMERGEABLE = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "target_parameters",
)
_MERGED_USES = ("use_dora", "use_rslora")

# Initial weights that PEFT takes out of the base, each time it opens the adapter.
_CHANGE_THE_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")


def _as_dict(value: object) -> object:
    return {} if value is None else value


# The description is what a message says the value must be.
Flag = Annotated[
    bool, BeforeValidator(lambda value: value or False), Field(description="true or false")
]
Rank = Annotated[int, Field(gt=0, description="a positive whole number")]
Alpha = Annotated[float, Field(allow_inf_nan=False, description="a number")]
Indices = Annotated[list[Annotated[int, Field(ge=0)]], Field(description="a list of token ids")]


class LoraConfig(BaseModel):
    """The fields that decide what is merged, under PEFT's names."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    peft_type: Literal["LORA"] = Field(description="LORA")
    r: Rank = 8
    lora_alpha: Alpha = 8
    rank_pattern: Annotated[dict[str, Rank], BeforeValidator(_as_dict)] = Field(
        {}, description="positive whole numbers by module"
    )
    alpha_pattern: Annotated[dict[str, Alpha], BeforeValidator(_as_dict)] = Field(
        {}, description="numbers by module"
    )
    use_rslora: Flag = False
    use_dora: Flag = False
    ensure_weight_tying: Flag = False
    modules_to_save: list[str] | None = Field(None, description="a list of modules")
    trainable_token_indices: Indices | dict[str, Indices] | None = Field(
        None, description="a list of token ids, or such lists by module"
    )
    base_model_name_or_path: str | None = Field(None, description="a folder, or a name of the Hub")
    revision: str | None = Field(None, description="a text")

    def rank(self, module: str) -> int:
        """The rank of a module's update."""
        return self.rank_pattern.get(_pattern(self.rank_pattern, module), self.r)

    def scale(self, module: str) -> float:
        """The factor of a module's update."""
        rank = self.rank(module)
        alpha = self.alpha_pattern.get(_pattern(self.alpha_pattern, module), self.lora_alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def replaces(self, module: str) -> bool:
        """Whether the module was trained whole, on a copy of its own (`modules_to_save`)."""
        return any(module.endswith(name) for name in self.modules_to_save or ())

    def token_ids(self, module: str) -> list[int]:
        """The tokens of an embedding whose rows were trained; empty if there are none."""
        indices = self.trainable_token_indices or []
        if isinstance(indices, list):
            return indices if module.endswith("embed_tokens") else []
        return next((ids for name, ids in indices.items() if module.endswith(name)), [])


def _pattern(patterns: Mapping[str, Any], module: str) -> str:
    """The first pattern that matches the end of a module's name, by PEFT's rule; else ""."""
    for pattern in patterns:
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return pattern
        except re.error as error:
            raise WeightsError(
                f"{CONFIG}: rank_pattern or alpha_pattern {pattern!r} is no regular expression: "
                f"{error}"
            ) from error
    return ""


def parse_config(fields: Mapping[str, Any], where: str) -> LoraConfig:
    """The LoRA that a parsed `adapter_config.json` describes; `where` names it in messages.

    Raises:
        WeightsError: It is no LoRA, or one that can't be merged. The message lists all faults.
    """
    kind = fields.get("peft_type")
    if kind != "LORA":
        raise WeightsError(f"{where}: peft_type {kind!r}: only LORA adapters are merged")
    faults = []
    given = {key: value for key, value in fields.items() if value is not None}
    try:
        parsed = LoraConfig.model_validate(given)
    except ValidationError as error:
        keys = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors())
        faults += [
            f"{key} must be {LoraConfig.model_fields[key].description or 'of another kind'}, "
            f"not {given[key]!r}"
            for key in keys
        ]
    faults += [
        f"{key}: such an adapter can't be merged into the weights"
        for key, value in sorted(given.items())
        if value and (key in _UNMERGEABLE or (key.startswith("use_") and key not in _MERGED_USES))
    ]
    started = str(given.get("init_lora_weights", "")).lower()
    if started.startswith(_CHANGE_THE_BASE):
        faults.append(
            f"init_lora_weights {started!r} changes the base, too; save the adapter again with "
            f"save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
    if faults:
        raise WeightsError(f"{where}:\n  " + "\n  ".join(faults))
    return parsed
