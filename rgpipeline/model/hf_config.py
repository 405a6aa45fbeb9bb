"""Reading a Hugging Face `config.json` of model type `recurrent_gemma`."""

from collections.abc import Mapping

from rgpipeline.errors import WeightsError
from rgpipeline.model.config import ATTENTION, GRIFFIN_CYCLE, RECURRENT, GriffinConfig, cycle

_MODEL_TYPES = ("recurrent_gemma", "griffin", "hawk")

# What the arithmetic takes for granted: a checkpoint that says otherwise is another model.
_FIXED: Mapping[str, object] = {
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 0.5,
    "num_key_value_heads": 1,
    "attention_bias": False,
    "tie_word_embeddings": True,
}


def parse(fields: Mapping[str, object], where: str) -> GriffinConfig:
    """The configuration that the fields of a parsed `config.json` describe.

    Args:
        fields: The JSON object.
        where: The file's name, for messages.

    Raises:
        WeightsError: It is not a Griffin, or lacks or contradicts something; all said at once.
    """
    model_type = fields.get("model_type")
    if model_type not in _MODEL_TYPES:
        raise WeightsError(
            f"{where}: model_type {model_type!r} is not a Griffin model; "
            f"rgpipeline runs model_type 'recurrent_gemma' only"
        )
    reader = _Reader(fields)
    config = reader.config()
    faults = reader.faults or [*shape_faults(config), *_contradictions(fields, config)]
    if faults:
        raise WeightsError(f"{where}:\n  " + "\n  ".join(faults))
    return config


def shape_faults(config: GriffinConfig) -> list[str]:
    """What is impossible about these sizes, one sentence each."""
    faults = [
        f"{name} {size} is not a multiple of the {config.heads} heads"
        for name, size in (("hidden_size", config.width), ("lru_width", config.lru_width))
        if size % config.heads
    ]
    if ATTENTION in config.block_types and not faults and config.head_dim % 4:
        faults.append(f"head width {config.head_dim} is not a multiple of 4, as RoPE needs")
    if config.conv_width < 2:
        faults.append(f"conv1d_width {config.conv_width} is less than 2")
    return faults


def _contradictions(fields: Mapping[str, object], config: GriffinConfig) -> list[str]:
    nested = fields.get("rope_parameters")
    given = {**fields, **(nested if isinstance(nested, dict) else {})}
    faults = [
        f"{key} {given[key]!r}: only {value!r} is supported"
        for key, value in _FIXED.items()
        if given.get(key) is not None and given[key] != value
    ]
    head_dim = fields.get("head_dim")
    if head_dim not in (None, config.head_dim):
        faults.append(
            f"head_dim {head_dim!r}: only hidden_size / num_attention_heads, "
            f"{config.head_dim}, is supported"
        )
    return faults


class _Reader:
    """Takes fields one by one and remembers every fault."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields
        self.faults: list[str] = []

    def config(self) -> GriffinConfig:
        width = self._size("hidden_size")
        soft_cap = self._fields.get("logits_soft_cap")
        scaled = self._fields.get("embeddings_scale_by_sqrt_dim")
        bos, pad = self._fields.get("bos_token_id"), self._fields.get("pad_token_id")
        return GriffinConfig(
            vocab_size=self._size("vocab_size"),
            width=width,
            mlp_width=self._mlp_width(),
            heads=self._size("num_attention_heads"),
            lru_width=self._size("lru_width", width),
            block_types=self._block_types(),
            window=self._size("attention_window_size", 2048),
            logits_soft_cap=self._soft_cap(30.0 if soft_cap is None else soft_cap),
            scale_embeddings=True if scaled is None else bool(scaled),
            conv_width=self._size("conv1d_width", 4),
            bos_id=self._id("bos_token_id", 2 if bos is None else bos),
            eos_ids=self._eos_ids(),
            pad_id=self._id("pad_token_id", 0 if pad is None else pad),
        )

    def _size(self, key: str, default: int | None = None) -> int:
        value = self._fields.get(key)
        value = default if value is None else value
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        self.faults.append(f"{key} must be a positive whole number, not {value!r}")
        return 1

    def _mlp_width(self) -> int:
        both = self._size("intermediate_size", None)
        if both % 2 and not self.faults:
            self.faults.append(f"intermediate_size {both} is odd; it counts both MLP branches")
        return both // 2

    def _block_types(self) -> tuple[str, ...]:
        pattern = self._fields.get("block_types") or self._fields.get("_block_types")
        pattern = GRIFFIN_CYCLE if pattern is None else pattern
        depth = self._size("num_hidden_layers")
        if isinstance(pattern, list | tuple) and set(pattern) <= {RECURRENT, ATTENTION} and pattern:
            return cycle(tuple(pattern), depth)
        self.faults.append(
            f"block_types must be a list of '{RECURRENT}' and '{ATTENTION}', not {pattern!r}"
        )
        return ()

    def _soft_cap(self, value: object) -> float:
        if isinstance(value, int | float) and value >= 0:
            return float(value)
        self.faults.append(f"logits_soft_cap must be a number, 0 or more, not {value!r}")
        return 0.0

    def _eos_ids(self) -> tuple[int, ...]:
        value = self._fields.get("eos_token_id")
        ids = [1] if value is None else value if isinstance(value, list) else [value]
        return tuple(self._id("eos_token_id", one) for one in ids)

    def _id(self, key: str, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        self.faults.append(f"{key} must be a token id, not {value!r}")
        return 0
