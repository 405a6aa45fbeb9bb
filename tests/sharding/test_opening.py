"""Opening an engine over chips that are not as they should be."""

from pathlib import Path

import pytest

from rgpipeline.engine.factory import open_engine
from rgpipeline.errors import UserError
from rgpipeline.spec import EngineSpec, MeshSpec
from tests.sources import source

MODEL = source(Path(__file__).parent.parent / "golden" / "a" / "hf")


def test_a_worker_that_does_not_see_its_chips_says_so_before_it_loads_anything() -> None:
    with pytest.raises(UserError, match=r"was given 4 accelerators, and jax sees 1 \(cpu\)"):
        open_engine(source("/nowhere"), EngineSpec(), devices=4)


def test_a_mesh_of_more_chips_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=r"workers\.mesh: data 2 × model 1 is 2 chips; there are 1"):
        open_engine(MODEL, EngineSpec(), mesh=MeshSpec(data=2))
