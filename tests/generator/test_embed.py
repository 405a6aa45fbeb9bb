"""`Generator.embed`: the official library's hidden values, pooled; same bytes in any company."""

from functools import partial
from typing import Any

import jax
import numpy as np
import orbax.checkpoint
import pytest
from recurrentgemma.jax import griffin

from rgpipeline.errors import RowError, UserError
from rgpipeline.generator import Generator
from rgpipeline.model.weights.loading import load
from tests.generator.conftest import GOLDEN, HF
from tests.model.official import official_config
from tests.sources import source

LENGTHS = (1, 2, 15, 16, 17, 33, 64, 90)  # the window is 32, a chunk 16
PROMPTS = [[2, *np.random.default_rng(n).integers(3, 256, n - 1).tolist()] for n in LENGTHS]


@pytest.fixture(scope="module")
def hidden() -> list[np.ndarray]:
    """Each prompt's hidden values after the final norm, float32 [n, width], of the official model.

    The prompts are one batch, for what follows a position can't change it.
    """
    model = griffin.Griffin(official_config(load(source(HF, "float32"))[0]), dtype=np.float32)
    folder = GOLDEN / "a" / "official"
    params: Any = orbax.checkpoint.PyTreeCheckpointer().restore(folder.resolve())["params"]
    batch = np.zeros((len(PROMPTS), max(LENGTHS)), np.int32)
    for row, prompt in zip(batch, PROMPTS, strict=True):
        row[: len(prompt)] = prompt
    places = np.broadcast_to(np.arange(batch.shape[1], dtype=np.int32), batch.shape)
    kept = {"capture_intermediates": lambda module, _: module.name == "final_norm"}
    apply = partial(model.apply, mutable="intermediates", **kept)
    _, seen = jax.jit(apply)({"params": params}, batch, places)
    (values,) = seen["intermediates"]["final_norm"]["__call__"]
    return [np.asarray(row[:n]) for row, n in zip(values, LENGTHS, strict=True)]


@pytest.mark.parametrize("order", [1, -1])
def test_embeddings_are_the_official_hidden_values(
    generator: Generator, hidden: list[np.ndarray], order: int
) -> None:
    prompts, hidden = PROMPTS[::order], hidden[::order]
    mean = generator.embed(prompts, normalize=False)
    last = generator.embed(prompts, "last", normalize=False)
    assert (mean.dtype, last.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(mean, [h.mean(0) for h in hidden], atol=1e-4)
    np.testing.assert_allclose(last, [h[-1] for h in hidden], atol=1e-4)


def test_a_normalized_embedding_points_the_same_way_and_has_length_one(
    generator: Generator,
) -> None:
    plain, unit = (generator.embed(PROMPTS, normalize=n) for n in (False, True))
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, plain / lengths, rtol=1e-6)


def test_an_embedding_is_the_same_bytes_in_any_company(generator: Generator) -> None:
    together = generator.embed(PROMPTS)
    for prompt, one in zip(PROMPTS, together, strict=True):
        assert generator.embed([PROMPTS[3], prompt])[1].tobytes() == one.tobytes()


def test_no_prompts_give_an_empty_array_of_the_width(generator: Generator) -> None:
    assert generator.embed([]).shape == (0, generator.embed([[2]]).shape[1])


def test_a_mistake_is_named(generator: Generator) -> None:
    with pytest.raises(RowError, match="prompt 1: the prompt has no tokens"):
        generator.embed([[2], []])
    with pytest.raises(UserError, match=r"embed.pooling: should be 'mean' or 'last'"):
        generator.embed([[2]], "max")  # type: ignore[arg-type]
