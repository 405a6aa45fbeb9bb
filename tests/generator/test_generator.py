"""The embedded face, against the official library's own answers."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from rgpipeline import Generator
from rgpipeline.errors import RowError, StoreError, UserError, WeightsError
from rgpipeline.storage import reachable
from rgpipeline.text.tokenizer import Tokenizer
from tests.generator.conftest import GOLDEN, HF, TOKENIZER

GREEDY = {"temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "a" / "expected.npz"))


@pytest.fixture(scope="module")
def bare() -> Generator:
    """Of one slot, without a tokenizer."""
    return Generator.load(HF, dtype="float32", slots=1, prefill_chunk=16)


def prompts_of(expected) -> list[list[int]]:
    return [expected[f"prompt_{i}"].tolist() for i in range(6)]


def longest(expected) -> int:
    return len(expected["greedy_0"])


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]])
def test_greedy_continuations_are_the_official_ones_in_any_order(generator, expected, order):
    prompts = prompts_of(expected)
    sampling = {**GREEDY, "max_tokens": longest(expected)}
    done = generator.generate([prompts[i] for i in order], sampling)
    assert [c.token_ids for c in done] == [expected[f"greedy_{i}"].tolist() for i in order]


def test_the_number_of_slots_changes_no_greedy_token(bare, expected):
    done = bare.generate(prompts_of(expected), {**GREEDY, "max_tokens": 12})
    assert [c.token_ids for c in done] == [expected[f"greedy_{i}"][:12].tolist() for i in range(6)]


def test_log_probabilities_are_the_official_ones(generator, expected):
    sampling = {**GREEDY, "max_tokens": longest(expected), "logprobs": 5}
    for i, done in enumerate(generator.generate(prompts_of(expected), sampling)):
        np.testing.assert_allclose(done.logprobs.top, expected[f"top5_logp_{i}"], atol=2e-4)
        np.testing.assert_array_equal(done.logprobs.top[:, 0], done.logprobs.sampled)


def test_a_model_in_int8_scores_nearly_the_same(expected):
    prompt, logits = expected["prompt_5"], expected["logits_5"].astype(np.float64)
    model = Generator.load(HF, dtype="float32", quantize="int8", slots=4, prefill_chunk=16)
    exact = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    off = model.score([prompt.tolist()])[0] - exact[np.arange(len(prompt) - 1), prompt[1:]]
    assert 0 < np.abs(off).mean() < 0.2


def test_scores_are_the_official_log_probabilities(generator, expected):
    prompt, logits = expected["prompt_5"], expected["logits_5"].astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = logprobs[np.arange(len(prompt) - 1), prompt[1:]]
    scores = generator.score([[1], prompt.tolist()])
    assert len(scores[0]) == 0
    np.testing.assert_allclose(scores[1], wanted, atol=2e-4)


def test_completions_have_the_official_log_probabilities_and_the_bits_of_pairs(generator, expected):
    prompt = expected["prompt_2"].tolist()
    half, logits = len(prompt) // 2, expected["logits_2"]
    greedy = expected["greedy_2"][:3].tolist()
    texts = [prompt[half:], prompt[half : half + 2], [*prompt[half:], *greedy]]
    (together,) = generator.score([prompt[:half]], [texts])
    apart = generator.score([prompt[:half]] * 3, texts)
    for score, pair, text in zip(together, apart, texts, strict=True):
        assert score.tokens == len(text)
        assert score.token_logprobs.tobytes() == pair.token_logprobs.tobytes()
        rows = np.arange(half - 1, min(half - 1 + len(text), len(prompt) - 1))
        logprobs = logits[rows] - np.logaddexp.reduce(logits[rows], axis=-1, keepdims=True)
        right = logprobs[np.arange(len(rows)), prompt[half : half + len(rows)]]
        np.testing.assert_allclose(score.token_logprobs[: len(rows)], right, atol=2e-4)


def test_a_completion_is_greedy_if_it_is_what_the_model_writes(generator, expected):
    prompt, greedy = expected["prompt_1"].tolist(), expected["greedy_1"][:4].tolist()
    other = [*greedy[:3], (greedy[3] + 1) % 256]
    (scores,) = generator.score([prompt], [[greedy, other, greedy[:1], []]])
    assert [score.is_greedy for score in scores] == [True, False, True, True]


def test_completions_keep_the_form_in_which_they_are_given(generator):
    one, several = generator.score([[2], [2, 5]], [[7, 8], [[7], [8, 9]]])
    assert (one.tokens, [score.tokens for score in several]) == (2, [1, 2])


@pytest.mark.parametrize(
    ("completions", "told"),
    [
        ([[5]], "completions: 1 for 2 prompts"),
        ([[5], []], "prompt 1: it has no completions"),
        ([[5], [[5], [300]]], "prompt 1, completion 1: token id 300 is outside"),
        ([[5], [[5], None]], "prompt 1, completion 1: it is neither a text nor"),
    ],
)
def test_a_completion_that_cannot_be_scored_is_named(generator, completions, told):
    with pytest.raises((RowError, UserError), match=told):
        generator.score([[2], [2, 5]], completions)


def test_a_text_is_its_tokens_after_the_beginning_of_text(generator):
    text = "\x01\x02\x03"
    tokens = Tokenizer.load(TOKENIZER).encode(text)
    of_text, of_tokens = generator.score([text, tokens])
    assert tokens[0] == 2
    np.testing.assert_array_equal(of_text, of_tokens)


def test_samples_and_rows_draw_apart_and_again_the_same(generator):
    first = generator.generate([[1, 2], [1, 2]], {"n": 2, "max_tokens": 20})
    assert len({tuple(c.token_ids) for c in first}) == 4
    again = generator.generate([[1, 2]], {"n": 2, "max_tokens": 20}, ids=["1"])
    assert [c.token_ids for c in again] == [c.token_ids for c in first[2:]]


def test_a_stream_is_the_text_of_generate(generator):
    sampling = {"max_tokens": 60, "seed": 3, "ignore_eos": True}
    (whole,) = generator.generate([[1, 5]], sampling, ids=["0"])
    pieces = list(generator.stream([1, 5], sampling))
    assert "".join(pieces) == whole.text
    assert len(pieces) > 1


def test_a_stop_string_ends_text_and_tokens_alike_whatever_the_block(generator):
    sampling = {"max_tokens": 60, "seed": 3, "ignore_eos": True}
    (whole,) = generator.generate([[1, 7]], sampling)
    stop = whole.text[20:23]
    (cut,) = generator.generate([[1, 7]], {**sampling, "stop": stop, "logprobs": 1})
    other = Generator.load(
        HF, tokenizer=TOKENIZER, dtype="float32", slots=4, prefill_chunk=16, steps_per_dispatch=7
    )
    (same,) = other.generate([[1, 7]], {**sampling, "stop": stop, "logprobs": 1})
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert (cut.text, cut.token_ids) == (same.text, same.token_ids)
    assert len(cut.logprobs.sampled) == len(cut.token_ids)


def test_a_stop_string_that_names_a_token_without_text_ends_there(generator):
    eos = Tokenizer.load(TOKENIZER).eos_id
    sampling = {"max_tokens": 5, "ignore_eos": True, "logit_bias": {eos: 100.0}}
    (on,) = generator.generate([[1, 7]], sampling)
    (cut,) = generator.generate([[1, 7]], {**sampling, "stop": "<eos>"})
    assert on.token_ids == [eos] * 5
    assert (cut.token_ids, cut.finish_reason) == ([], "stop")


def test_a_stream_left_early_frees_its_slot(generator):
    endless = generator.stream([1, 2], {"max_tokens": None, "ignore_eos": True})
    next(endless)
    endless.close()
    assert generator._loop.opened().occupied == 0


def test_generating_goes_on_beside_a_stream(generator):
    sampling = {"max_tokens": 40, "seed": 5, "ignore_eos": True}
    (whole,) = generator.generate([[1, 9]], sampling, ids=["0"])
    stream = generator.stream([1, 9], sampling)
    begun = next(stream)
    generator.generate([[1, 3]] * 6, {"max_tokens": 30})
    assert begun + "".join(stream) == whole.text


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ([], "prompt 1: the prompt has no tokens"),
        ([3, 256], "prompt 1: token id 256 is outside the model's vocabulary of 256"),
        ([2**40], "prompt 1: token id 1099511627776"),
        ([[1, 2]], "prompt 1: it is neither a text nor a list"),
        ([[1], [1, 2]], "prompt 1: it is neither a text nor a list"),
        ([1.5], "prompt 1: it is neither a text nor a list"),
        (7, "prompt 1: it is neither a text nor a list"),
        (None, "prompt 1: it is neither a text nor a list"),
    ],
)
def test_a_prompt_that_cannot_be_done_is_named_and_nothing_is_begun(generator, prompt, told):
    with pytest.raises(RowError) as caught:
        generator.generate([[1, 2], prompt])
    assert told in str(caught.value)
    assert generator._loop.opened().idle


@pytest.mark.parametrize("column", [pa.array, pa.chunked_array, pl.Series])
def test_a_column_of_texts_generates_what_its_texts_do(generator, column):
    texts = ["\x01\x02\x03", "\x05"]
    prompts = column([texts]) if column is pa.chunked_array else column(texts)
    sampling = {"max_tokens": 5, "seed": 2}
    assert generator.generate(prompts, sampling) == generator.generate(texts, sampling)
    assert next(iter(generator.stream(pa.scalar(texts[0]), {**sampling, "ignore_eos": True})))
    for of_column, of_text in zip(generator.score(prompts), generator.score(texts), strict=True):
        np.testing.assert_array_equal(of_column, of_text)


def test_a_text_of_a_tokenizer_larger_than_the_model_is_told_both_sizes(generator):
    with pytest.raises(WeightsError, match="tokenizer has 1,024 tokens, the model only 256"):
        generator.generate(["In the beginning"])
    with pytest.raises(WeightsError, match="tokenizer has 1,024 tokens, the model only 256"):
        generator.chat([{"role": "user", "content": "In the beginning"}])


def test_a_text_without_a_tokenizer_is_told_as_such(bare):
    with pytest.raises(RowError, match="the model has no tokenizer"):
        bare.generate(["text"])
    with pytest.raises(WeightsError, match="needs a tokenizer"):
        bare.stream([1])
    assert bare.generate([[1]], {"max_tokens": 1})[0].text is None


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda g: g.generate("text"), "give a list of prompts"),
        (lambda g: g.generate([[1]], {"temprature": 1}), "sampling.temprature: unknown key"),
        (lambda g: g.generate([[1]], [{}, {}]), "2 settings for 1 prompts"),
        (lambda g: g.generate([[1]], {}, ids=["a", "b"]), "2 ids for 1 prompts"),
        (lambda g: g.generate([[1]], {"stop_ids": [-5]}), "sampling.stop_ids[0]: should be"),
        (lambda g: g.stream([1], {"n": 2}), "a stream is one sample"),
        (lambda g: Generator.load(HF, slots=0), "slots: should be 'auto' or greater"),
        (lambda g: Generator.load(HF, mesh={"modle": 2}), "mesh.modle: unknown key"),
    ],
)
def test_a_callers_mistake_is_told(generator, call, told):
    with pytest.raises(UserError) as caught:
        call(generator)
    assert told in str(caught.value)


@pytest.mark.parametrize("field", ["stop_ids", "logit_bias"])
def test_a_token_id_the_model_does_not_have_is_told(generator, field):
    ids = [256] if field == "stop_ids" else {256: 1.0}
    with pytest.raises(RowError, match=f"prompt 0: {field} names token id 256"):
        generator.generate([[1]], {field: ids})


def test_weights_behind_a_store_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachable, "PATIENCE_S", 0.5)
    nowhere = {"s3": {"endpoint_url": "http://127.0.0.1:1", "anon": True}}
    with pytest.raises(StoreError, match=r"s3://b/weights: the store at .* does not answer"):
        Generator.load("s3://b/weights", storage_options=nowhere)


def test_a_setting_has_the_name_of_its_argument() -> None:
    with pytest.raises(WeightsError, match="give its address as tokenizer="):
        Generator.load("demo", tokenizer="nowhere")
