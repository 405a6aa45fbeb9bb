"""Whether weights give numbers at all; asked only once a row got none."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.numbers import NumberCheck, without_numbers
from rgpipeline.engine.scoring import Scoring, score_all
from rgpipeline.errors import WeightsError
from rgpipeline.model.params import flatten

_SHOWN = 3


def number_check(engine: GriffinEngine, params: Any, weights: str) -> NumberCheck:
    """The check for an engine over these parameters; `weights` is what messages call them."""
    return NumberCheck(partial(require_numbers, engine, params, weights), weights)


def require_numbers(engine: GriffinEngine, params: Any, weights: str) -> None:
    """Scores the shortest text, BOS alone. Raises WeightsError if its logits are not finite."""
    text = np.full((2,), engine.config.bos_id, np.int32)
    (score,) = score_all(Scoring(engine, 0), [text])
    if without_numbers(score):
        raise WeightsError(
            f"{weights}: the weights give no numbers: for any prompt, logits are NaN or "
            f"infinite{_where(params)}; copy or save the model again, or try model.dtype: float32"
        )


def _where(params: Any) -> str:
    """The parameters that hold NaN or infinity, for the message."""
    spoilt = [
        ".".join(path)
        for path, leaf in flatten(params).items()
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not bool(jnp.isfinite(leaf).all())
    ]
    if not spoilt:
        return ""
    more = ", …" if len(spoilt) > _SHOWN else ""
    return f" (NaN or infinity is in {', '.join(spoilt[:_SHOWN])}{more})"
