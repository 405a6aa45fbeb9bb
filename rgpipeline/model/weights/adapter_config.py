"""PEFT's `adapter_config.json` of a LoRA: reading it, and finding the adapter's base."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rgpipeline.addresses import DEMO, DEMO_FOLDER
from rgpipeline.errors import WeightsError
from rgpipeline.spec import ModelSpec
from rgpipeline.storage.filesystems import StorageOptions, protocol_of
from rgpipeline.storage.folders import Folder
from rgpipeline.storage.small_files import json_object, read_in

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
_TOKENIZERS = ("tokenizer.model", "tokenizer.json")
_HUB_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")

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


class Located(NamedTuple):
    """The folders of a model: its weights, and the adapter to merge into them."""

    weights: Folder
    adapter: Folder | None


def locate(
    folder: Folder, adapter: str | None, base: str | None, options: StorageOptions | None
) -> Located:
    """The folders that are meant by `model.weights` (`folder`), `model.adapter` and `model.base`.

    Raises:
        WeightsError: They contradict each other, or nothing says what the adapter's base is.
        StoreError: A remote store failed again and again.
    """
    if adapter is not None:
        if base is not None:
            raise WeightsError(
                f"model.base {base}: beside model.adapter, the weights are the base; remove it"
            )
        if _is_adapter(folder.names()):
            raise WeightsError(
                f"{folder.url}: an adapter itself; beside model.adapter, give its base's folder"
            )
        return Located(folder, Folder(adapter, options))
    if _is_adapter(folder.names()):
        address = base or _named_base(folder.read_json(CONFIG), folder.url)
        return Located(Folder(DEMO_FOLDER if address == DEMO else address, options), folder)
    if base is not None:
        raise WeightsError(f"model.base {base}: is for an adapter, and {folder.url} is none")
    return Located(folder, None)


def tokenizer_folder(model: ModelSpec, options: StorageOptions | None) -> str:
    """Where the tokenizer is: what is named, or the weights, or an adapter's base.

    Raises WeightsError, StoreError.
    """
    if model.tokenizer is not None or model.adapter is not None:
        return model.tokenizer or model.weights
    raw = read_in(model.weights, CONFIG, options)
    if raw is None:
        return model.weights
    names = Folder(model.weights, options).names()
    if not _is_adapter(names) or any(name in names for name in _TOKENIZERS):
        return model.weights
    return model.base or _named_base(json_object(raw, CONFIG), model.weights)


def with_base(model: ModelSpec) -> ModelSpec:
    """With the base named, if the weights are an adapter on this machine.

    Its own configuration may give a path relative to this process's working directory.
    """
    if model.adapter is not None or model.base is not None or protocol_of(model.weights) != "file":
        return model
    raw = read_in(model.weights, CONFIG, None)
    if raw is None or not _is_adapter(Folder(model.weights).names()):
        return model
    base = _named_base(json_object(raw, CONFIG), model.weights)
    return model.model_copy(update={"base": base})


def _is_adapter(names: Sequence[str]) -> bool:
    """Whether a folder of these files is an adapter's, without a model."""
    model = any(n.endswith(".safetensors") and not n.startswith("adapter_") for n in names)
    return CONFIG in names and not (model and "config.json" in names)


def _named_base(fields: Mapping[str, Any], url: str) -> str:
    """The address of `base_model_name_or_path`."""
    name, revision = fields.get("base_model_name_or_path"), fields.get("revision")
    where = f"{url}/{CONFIG}"
    if not isinstance(name, str) or not name:
        raise WeightsError(f"{where}: names no base; give its folder as model.base")
    if "://" in name or Path(name).expanduser().is_dir():
        return name if "://" in name else str(Path(name).expanduser().absolute())
    if _HUB_NAME.fullmatch(name):
        return f"hf://{name}@{revision}" if isinstance(revision, str) else f"hf://{name}"
    raise WeightsError(
        f"{where}: its base {name!r} is neither a folder here nor a name of the Hub; give the "
        f"base's folder as model.base"
    )
