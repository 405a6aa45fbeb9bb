"""The official library as an oracle: random models of its own, and our reading of their weights."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from recurrentgemma import common
from recurrentgemma.jax import griffin as official_griffin

from rgpipeline.model.config import RECURRENT, GriffinConfig
from rgpipeline.model.param_tree import flatten, nest
from rgpipeline.model.params import stored_dtype
from rgpipeline.model.quantize import is_quantized, quantized_weights, scale_path
from rgpipeline.model.weights import official_layout
from tests.model.running import COMPILED_FAST, Runner


class Pair(NamedTuple):
    """The same model twice."""

    ours: Runner
    theirs: "Official"


class Official:
    """A model of the official library, run as it means to be: whole sequences."""

    def __init__(
        self,
        config: GriffinConfig,
        params: Any,
        dtype: Any = jnp.float32,
        *,
        optimized: bool = False,
    ) -> None:
        self.model = official_griffin.Griffin(official_config(config), dtype=dtype)
        self.params = params
        self._apply = jax.jit(
            self.model.apply, compiler_options=None if optimized else COMPILED_FAST
        )

    def forward(self, tokens: np.ndarray) -> np.ndarray:
        """Logits float32 [b t v]."""
        places = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
        logits, _ = self._apply({"params": self.params}, tokens, places)
        return np.asarray(logits, np.float32)

    def states_after(self, tokens: np.ndarray) -> list[np.ndarray]:
        """Each recurrent block's state, float32 [1 e], after a text [t]."""
        places = np.arange(len(tokens), dtype=np.int32)[None]
        _, after = self._apply({"params": self.params}, tokens[None], places)
        return [np.asarray(block.rg_lru_state) for block in after.values()]


def official_config(config: GriffinConfig) -> common.GriffinConfig:
    kinds = common.TemporalBlockType
    return common.GriffinConfig(
        vocab_size=config.vocab_size,
        width=config.width,
        mlp_expanded_width=config.mlp_width,
        num_heads=config.heads,
        block_types=tuple(
            kinds.RECURRENT if kind == RECURRENT else kinds.ATTENTION for kind in config.block_types
        ),
        embeddings_scale_by_sqrt_dim=config.scale_embeddings,
        attention_window_size=config.window,
        logits_soft_cap=config.logits_soft_cap,
        lru_width=config.lru_width,
        scan_type=common.ScanType.ASSOCIATIVE_NATIVE,  # its default takes long to compile
    )


def random_official_params(config: GriffinConfig, seed: int) -> Any:
    """Random parameters in the official tree; nothing is zero, so nothing can be left out."""
    model = official_griffin.Griffin(official_config(config))
    places = jnp.zeros((1, 2), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), places, places)["params"]
    rng = np.random.default_rng(seed)

    def draw(path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
        matrix = path[-1] in ("kernel", "w", "input_embedding")
        inputs = shape[-1] if path[-1] == "input_embedding" else shape[-2] if matrix else 100
        if path[-1] == "a_param":
            return rng.uniform(-9, -1, shape).astype(np.float32)
        return (rng.standard_normal(shape) / np.sqrt(inputs)).astype(np.float32)

    return nest({path: draw(path, leaf.shape) for path, leaf in flatten(shapes).items()})


def ours_from_official(config: GriffinConfig, params: Any, dtype: Any = jnp.float32) -> Any:
    """The same parameters in our tree, by the loader's own recipes."""
    held = {"/".join(path): value for path, value in flatten(params).items()}
    return nest(
        {
            recipe.path: jnp.asarray(
                recipe.build([held[name] for name, _ in recipe.sources]),
                stored_dtype(recipe.path, dtype),
            )
            for recipe in official_layout.recipes(config)
        }
    )


def in_int8(params: Any) -> Any:
    """Our parameters, with those that `quantize: int8` quantizes in int8."""
    held = {}
    for path, value in flatten(params).items():
        if is_quantized(path):
            numbers, scales = quantized_weights(np.asarray(value))
            held[path], held[scale_path(path)] = jnp.asarray(numbers), jnp.asarray(scales)
        else:
            held[path] = value
    return nest(held)


def pair(config: GriffinConfig, seed: int) -> Pair:
    params = random_official_params(config, seed)
    return Pair(Runner(config, ours_from_official(config, params)), Official(config, params))
