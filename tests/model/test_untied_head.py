"""A head of its own: logits are transformers', however the folder says that there is one."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rgpipeline.errors import WeightsError
from rgpipeline.generator import Generator
from rgpipeline.model.weights.checkpoint import open_checkpoint, read_config
from rgpipeline.model.weights.loading import load
from tests.model.golden import FOLDER
from tests.model.running import Runner, worst
from tests.sources import source

pytestmark = pytest.mark.usefixtures("compiled_fast")

UNTIED = FOLDER / "untied" / "hf"
EXPECTED = np.load(FOLDER / "untied" / "expected.npz")
PROMPTS, LOGITS, GREEDY = (
    [EXPECTED[f"{kind}_{i}"] for i in range(3)] for kind in ("prompt", "logits", "greedy")
)
TOLERANCE = 2e-4
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

Tensors = dict[str, np.ndarray]
Change = Callable[[Tensors], object]


def changed(folder: Path, change: Change = lambda tensors: None, *, tie: bool | None) -> Path:
    """The golden folder with other tensors, and another word on whether they are tied."""
    shutil.copytree(UNTIED, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    fields = json.loads((folder / "config.json").read_text())
    del fields["tie_word_embeddings"]
    told = {} if tie is None else {"tie_word_embeddings": tie}
    (folder / "config.json").write_text(json.dumps(fields | told))
    return folder


def same_head(tensors: Tensors) -> None:
    tensors[HEAD] = tensors[EMBEDDING]


def runner(folder: Path) -> Runner:
    config, params, _ = load(source(folder, "float32"))
    return Runner(config, params)


@cache
def generator_of(quantize: str) -> Generator:
    return Generator.load(UNTIED, dtype="float32", quantize=quantize, slots=3, prefill_chunk=16)


@pytest.mark.parametrize("tie", [False, True, None])
def test_a_head_that_differs_gives_the_logits_whatever_the_config_says(
    tmp_path: Path, tie: bool | None
) -> None:
    run = runner(changed(tmp_path / "w", tie=tie))
    assert worst(run.in_chunks(PROMPTS, 16)[0], LOGITS) < TOLERANCE
    assert worst(run.token_by_token(PROMPTS), LOGITS) < TOLERANCE


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_greedy_continuations_are_transformers(quantize: str) -> None:
    generator = generator_of(quantize)
    sampling = {"temperature": 0, "max_tokens": len(GREEDY[0]), "ignore_eos": True}
    found = generator.generate([prompt.tolist() for prompt in PROMPTS], sampling)
    agree = np.mean([one.token_ids == row.tolist() for one, row in zip(found, GREEDY, strict=True)])
    assert agree == 1 or (quantize == "int8" and agree > 0.5)


def test_scores_are_transformers() -> None:
    scores = generator_of("none").score([prompt.tolist() for prompt in PROMPTS[1:]])
    for score, prompt, logits in zip(scores, PROMPTS[1:], LOGITS[1:], strict=True):
        logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        expected = logprobs[np.arange(len(prompt) - 1), prompt[1:]]
        np.testing.assert_allclose(score, expected, atol=TOLERANCE)


@pytest.mark.parametrize("tie", [False, True])
def test_a_head_equal_to_the_embedding_takes_no_memory(tmp_path: Path, tie: bool) -> None:
    config, params, _ = load(source(changed(tmp_path / "w", same_head, tie=tie)))
    assert config.tied
    assert "lm_head" not in params


def test_equal_values_in_different_dtypes_are_one_matrix(tmp_path: Path) -> None:
    def halved(tensors: Tensors) -> None:
        tensors[EMBEDDING] = tensors[EMBEDDING].astype(np.float16)
        tensors[HEAD] = tensors[EMBEDDING].astype(np.float32)

    assert load(source(changed(tmp_path / "w", halved, tie=True)))[0].tied


def test_a_head_that_differs_in_its_last_value_only_is_found(tmp_path: Path) -> None:
    def last(tensors: Tensors) -> None:
        tensors[HEAD] = tensors[EMBEDDING].copy()
        tensors[HEAD][-1, -1] += 1

    assert not load(source(changed(tmp_path / "w", last, tie=True)))[0].tied


def test_a_tied_model_stored_with_its_head_alone_is_read(tmp_path: Path) -> None:
    folder = changed(tmp_path / "w", lambda tensors: tensors.pop(EMBEDDING), tie=True)
    config, params, _ = load(source(folder, "float32"))
    assert config.tied
    held = load_file(UNTIED / "model.safetensors")[HEAD]
    np.testing.assert_array_equal(params["embedder"]["embedding"], held)


@pytest.mark.parametrize("missing", [HEAD, EMBEDDING])
def test_an_untied_model_without_one_of_both_is_refused(tmp_path: Path, missing: str) -> None:
    folder = changed(tmp_path / "w", lambda tensors: tensors.pop(missing), tie=False)
    with pytest.raises(WeightsError, match=f"missing tensor {missing}, shape"):
        open_checkpoint(source(folder))


def test_a_head_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    def longer(tensors: Tensors) -> None:
        tensors[HEAD] = np.pad(tensors[HEAD], ((0, 8), (0, 0)))

    folder = changed(tmp_path / "w", longer, tie=True)
    with pytest.raises(WeightsError, match=r"expected shape \[96, 32\], found \[104, 32\]"):
        open_checkpoint(source(folder), compare=False)


def test_fit_learns_of_the_head_from_the_tensors(tmp_path: Path) -> None:
    assert not read_config(source(changed(tmp_path / "w", tie=True))).tied


def test_fit_takes_the_configs_word_where_there_are_no_tensors(tmp_path: Path) -> None:
    folder = changed(tmp_path / "w", tie=False)
    (folder / "model.safetensors").unlink()
    assert not read_config(source(folder)).tied


def test_an_exported_model_is_the_same(tmp_path: Path) -> None:
    from rgpipeline.model.weights.hf_layout import save

    config, params, _ = load(source(UNTIED, "float32"))
    save(tmp_path, config, params, np.float32)
    again, reread, _ = load(source(tmp_path, "float32"))
    assert again == config
    np.testing.assert_array_equal(reread["lm_head"]["kernel"], params["lm_head"]["kernel"])


def test_a_model_saved_without_its_head_is_read(tmp_path: Path) -> None:
    """Names have no `model.` where a RecurrentGemmaModel was saved."""

    def bare(tensors: Tensors) -> None:
        del tensors[HEAD]
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    folder = changed(tmp_path / "w", bare, tie=True)
    config, _, _ = load(source(folder))
    assert config.tied
