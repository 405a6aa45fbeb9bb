"""What each chip holds, and what can't be divided among chips."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from rgpipeline.engine.programs.device_programs import PARAMS, ROWS, STATE
from rgpipeline.engine.programs.lowering import placed, tree_bytes
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.engine.slot_state import empty_slots
from rgpipeline.errors import UserError
from rgpipeline.model.collectives import Chips
from rgpipeline.model.config import known_config
from rgpipeline.model.mesh_shapes import check_model
from rgpipeline.model.params import param_shapes
from rgpipeline.model.sharding import check_slots, chips_for, param_spec

TWO, NINE = known_config("recurrentgemma-2b"), known_config("recurrentgemma-9b")


def mesh(data: int, model: int) -> AbstractMesh:
    return AbstractMesh((data, model), ("data", "model"))


def test_weights_are_divided_by_the_model_axis_and_no_other() -> None:
    params = param_shapes(NINE, jnp.bfloat16)

    each = tree_bytes(placed(params, mesh(2, 4), PARAMS))

    assert each == pytest.approx(tree_bytes(params) / 4, rel=0.01)


@pytest.mark.parametrize(
    ("path", "axes"),
    [
        (("blocks_0", "mlp", "up", "kernel_scale"), (None, "model")),
        (("blocks_0", "mlp", "down", "kernel_scale"), ()),
        (("embedder", "embedding_scale"), ("model",)),
    ],
)
def test_scales_go_with_the_outputs_of_their_matrix(
    path: tuple[str, ...], axes: tuple[str | None, ...]
) -> None:
    assert param_spec(path) == PartitionSpec(*axes)


def test_state_is_divided_among_all_chips() -> None:
    features = SamplingFeatures(penalties=True, bias=True)
    state = jax.eval_shape(lambda: empty_slots(NINE, 64, jnp.dtype(jnp.bfloat16), features))

    each = tree_bytes(placed(state, mesh(2, 4), STATE))

    assert each == pytest.approx(tree_bytes(state) / 8, rel=0.001)


def test_a_sequence_on_its_way_to_a_slot_is_divided_by_channels_alone() -> None:
    state = jax.eval_shape(
        lambda: empty_slots(NINE, 1, jnp.dtype(jnp.bfloat16), SamplingFeatures())
    )
    recurrent = state.model.blocks[0]

    each = tree_bytes(placed(recurrent, mesh(2, 4), ROWS))

    assert each == tree_bytes(recurrent) // 4


@pytest.mark.parametrize("parts", [2, 5, 10])
def test_2b_can_be_divided_in(parts: int) -> None:
    check_model(TWO, parts, "workers.mesh")


@pytest.mark.parametrize("parts", [3, 4, 8])
def test_2b_can_not_be_divided_in(parts: int) -> None:
    with pytest.raises(UserError, match=r"workers\.mesh\.model: this model has 10 heads .*1, 2, 5"):
        check_model(TWO, parts, "workers.mesh")


@pytest.mark.parametrize(
    ("data", "model", "there", "expected"),
    [("auto", 1, 8, Chips(8, 1)), ("auto", 4, 8, Chips(2, 4)), (1, 4, 8, Chips(1, 4))],
)
def test_chips_are_divided(data: int | str, model: int, there: int, expected: Chips) -> None:
    assert chips_for(data, model, there, "workers.mesh") == expected


@pytest.mark.parametrize(
    ("data", "model", "there", "told"),
    [
        (2, 4, 4, "workers.mesh: data 2 × model 4 is 8 chips; there are 4"),
        ("auto", 8, 4, "workers.mesh: data 1 × model 8 is 8 chips; there are 4"),
        ("auto", 3, 4, "workers.mesh.model: 3 does not divide the 4 chips"),
    ],
)
def test_chips_that_are_not_there(data: int | str, model: int, there: int, told: str) -> None:
    with pytest.raises(UserError, match=told):
        chips_for(data, model, there, "workers.mesh")


def test_slots_that_can_not_be_divided() -> None:
    with pytest.raises(UserError, match=r"engine\.slots: 100 can't be .* 8 chips .*; take 104"):
        check_slots(100, Chips(2, 4), "engine.slots")
