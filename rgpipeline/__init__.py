"""rgpipeline: batch generation with RecurrentGemma (Griffin) models.

A table of prompts in, every completion out, however long, with nothing lost.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rgpipeline.generator import Generator, State
    from rgpipeline.jobfile import load_job
    from rgpipeline.output import open_output
    from rgpipeline.runtime import run
    from rgpipeline.spec import Sampling

__version__ = "0.1.0"
__all__ = ["Generator", "Sampling", "State", "load_job", "open_output", "run"]

_HOMES = {
    "Generator": "rgpipeline.generator",
    "Sampling": "rgpipeline.spec",
    "State": "rgpipeline.generator",
    "load_job": "rgpipeline.jobfile",
    "open_output": "rgpipeline.output",
    "run": "rgpipeline.runtime",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use: importing jax and Ray takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
