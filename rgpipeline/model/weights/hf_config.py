"""Reading a Hugging Face `config.json` of model type `recurrent_gemma`."""

from collections.abc import Mapping

from rgpipeline.errors import WeightsError
from rgpipeline.model.config import ATTENTION, GRIFFIN_CYCLE, RECURRENT, GriffinConfig, cycle

Fields = Mapping[str, object]

_MODEL_TYPES = ("recurrent_gemma", "griffin", "hawk")

# What an absent key means: the defaults of transformers' RecurrentGemmaConfig (whose
# intermediate_size is not that of the released 2B).
_DEFAULTS = GriffinConfig(256_000, 2560, 7680 // 2, 10, 2560, cycle(GRIFFIN_CYCLE, 26))

# What the arithmetic takes for granted: a checkpoint that says otherwise is another model.
_FIXED: Fields = {
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
}
_FIXED_ATTENTION: Fields = {
    "rope_theta": 10_000.0,
    "rope_type": "default",
    "partial_rotary_factor": 0.5,
    "num_key_value_heads": 1,
    "attention_bias": False,
}
_PATTERNS = ("block_types", "_block_types", "layers_block_type")


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
            are the ones that count.
        inferred: What absent keys mean instead, where the tensors tell.

    Raises:
        WeightsError: It is not a Griffin, or contradicts something; all said at once.
    """
    model_type = fields.get("model_type")
    if model_type not in _MODEL_TYPES:
        raise WeightsError(
            f"{where}: model_type {model_type!r} is not a Griffin model; "
            f"rgpipeline runs model_type 'recurrent_gemma' only"
        )
    reader = _Reader(fields, inferred)
    config = reader.config(generation or {})
    faults = reader.faults or [*shape_faults(config), *_contradictions(fields, config)]
    if faults:
        raise WeightsError(f"{where}:\n  " + "\n  ".join(faults))
    return config


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
    if ATTENTION in config.block_types and not faults and config.head_dim % 4:
        faults.append(f"head width {config.head_dim} is not a multiple of 4, as RoPE needs")
    if config.conv_width < 2:
        faults.append(f"conv1d_width {config.conv_width} is less than 2")
    return faults


def _contradictions(fields: Fields, config: GriffinConfig) -> list[str]:
    fixed = {**_FIXED, **(_FIXED_ATTENTION if ATTENTION in config.block_types else {})}
    given = dict(fields)
    for nested in ("rope_scaling", "rope_parameters"):
        inner = fields.get(nested)
        given |= inner if isinstance(inner, dict) else {}
    faults = [
        f"{key} {given[key]!r}: only {value!r} is supported"
        for key, value in fixed.items()
        if given.get(key) is not None and given[key] != value
    ]
    head_dim = fields.get("head_dim")
    if ATTENTION in config.block_types and head_dim not in (None, config.head_dim):
        faults.append(
            f"head_dim {head_dim!r}: only hidden_size / num_attention_heads, "
            f"{config.head_dim}, is supported"
        )
    return faults


class _Reader:
    """Takes fields one by one and remembers every fault."""

    def __init__(self, fields: Fields, inferred: GriffinConfig | None) -> None:
        self._fields = fields
        self._inferred = inferred
        self._defaults = inferred or _DEFAULTS
        self.faults: list[str] = []

    def config(self, generation: Fields) -> GriffinConfig:
        defaults = self._defaults
        width = self._size("hidden_size", defaults.width)
        block_types = self._block_types()
        return GriffinConfig(
            vocab_size=self._size("vocab_size", defaults.vocab_size),
            width=width,
            mlp_width=self._mlp_width(),
            heads=self._size("num_attention_heads", defaults.heads),
            lru_width=self._size("lru_width", defaults.lru_width if self._inferred else width),
            block_types=block_types,
            window=self._window(block_types),
            logits_soft_cap=self._soft_cap(),
            scale_embeddings=self._flag("embeddings_scale_by_sqrt_dim", defaults.scale_embeddings),
            tied=self._tied(),
            conv_width=self._size("conv1d_width", defaults.conv_width),
            bos_id=self._ids("bos_token_id", self._fields, (defaults.bos_id,))[0],
            eos_ids=self._eos_ids(generation),
            pad_id=self._ids("pad_token_id", self._fields, (defaults.pad_id,))[0],
        )

    def _get(self, key: str, default: object) -> object:
        value = self._fields.get(key)
        return default if value is None else value

    def _size(self, key: str, default: int) -> int:
        value = self._get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        self.faults.append(f"{key} must be a positive whole number, not {value!r}")
        return 1

    def _flag(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            self.faults.append(f"{key} must be true or false, not {value!r}")
        return bool(value)

    def _tied(self) -> bool:
        key = "tie_word_embeddings"
        tied = self._flag(key, True)
        if not tied and self._inferred is not None:
            self.faults.append(f"{key} False: an official checkpoint has no head of its own")
        return tied

    def _mlp_width(self) -> int:
        both = self._size("intermediate_size", 2 * self._defaults.mlp_width)
        if both % 2 and not self.faults:
            self.faults.append(f"intermediate_size {both} is odd; it counts both MLP branches")
        return both // 2

    def _window(self, block_types: tuple[str, ...]) -> int:
        key, default = "attention_window_size", self._defaults.window
        value = self._fields.get(key)
        if ATTENTION not in block_types and not (isinstance(value, int) and value > 0):
            return default  # a Hawk has no use for it, and may say anything
        return self._size(key, default)

    def _block_types(self) -> tuple[str, ...]:
        depth = self._size("num_hidden_layers", self._defaults.depth)
        given = (self._fields[key] for key in _PATTERNS if self._fields.get(key) is not None)
        pattern = next(given, self._defaults.block_types)
        kinds = tuple(pattern) if isinstance(pattern, list | tuple) else ()
        if kinds and all(kind in (RECURRENT, ATTENTION) for kind in kinds):
            return cycle(kinds, depth)
        self.faults.append(
            f"block_types must be a list of '{RECURRENT}' and '{ATTENTION}', not {pattern!r}"
        )
        return ()

    def _soft_cap(self) -> float:
        value = self._fields.get("logits_soft_cap", self._defaults.logits_soft_cap)
        value = 0.0 if value is None else value
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return float(value)
        self.faults.append(f"logits_soft_cap must be a number, 0 or more, not {value!r}")
        return 0.0

    def _eos_ids(self, generation: Fields) -> tuple[int, ...]:
        key = "eos_token_id"
        fields = self._fields if generation.get(key) is None else generation
        return self._ids(key, fields, self._defaults.eos_ids)

    def _ids(self, key: str, fields: Fields, default: tuple[int, ...]) -> tuple[int, ...]:
        """One token id or several, without repetitions."""
        value = default if fields.get(key) is None else fields[key]
        ids = value if isinstance(value, list | tuple) else (value,)
        if ids and all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
            return tuple(dict.fromkeys(ids))
        self.faults.append(f"{key} must be a token id, not {value!r}")
        return (0,)
