"""What else people expect of a Generator: chats, results as they finish, progress, a tokenizer."""

import io
import sys

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece as spm

from rgpipeline import Generator
from rgpipeline.errors import RowError, UserError, WeightsError
from rgpipeline.generator import Progress
from rgpipeline.generator.calls import StageLines
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.tokenizer import Tokenizer
from tests.generator.conftest import HF, TOKENIZER, load

HELLO = [{"role": "user", "content": "Hello"}]
ANSWERED = [*HELLO, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Who?"}]
SAMPLING = {"max_tokens": 8, "seed": 3}
WORDS = Tokenizer.load(TOKENIZER)


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """With a tokenizer small enough for the model, and the turns of a chat in it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(["Hello there", "Hi. Who are you?", "<start_of_turn>user model"]),
        model_prefix=str(folder / "tokenizer"),
        model_type="char",
        vocab_size=100,
        hard_vocab_limit=False,
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>", "\n"],
        minloglevel=2,
    )
    return load(tokenizer=str(folder / "tokenizer.model"))


def template_of(generator: Generator) -> ChatTemplate:
    return ChatTemplate(generator._requests.require_reader("a chat").tokenizer)


def test_a_chat_goes_on_from_its_answers_state(chatty):
    (first,) = chatty.chat(HELLO, SAMPLING, keep_state=True)
    template, turn = template_of(chatty), [{"role": "user", "content": "Hi."}]
    after = template.encode_after(turn, in_turn=True)
    whole = [*template.encode(HELLO), *first.token_ids, *after]
    wanted = chatty.generate([whole], {**SAMPLING, "stop_ids": template.stop_ids})
    assert chatty.chat(turn, SAMPLING, from_state=first.state) == wanted


def test_a_chat_is_the_templates_prompt_and_ends_with_the_turn(chatty):
    template = template_of(chatty)
    chats = [template.encode(chat) for chat in (HELLO, ANSWERED)]
    wanted = chatty.generate(chats, {**SAMPLING, "stop_ids": template.stop_ids})
    assert chatty.chat([HELLO, ANSWERED], SAMPLING) == wanted
    assert chatty.chat(HELLO, SAMPLING) == wanted[:1]
    assert chatty.chat(pa.array([HELLO, ANSWERED]), SAMPLING) == wanted
    assert "".join(chatty.stream_chat(HELLO, SAMPLING)) == wanted[0].text
    with pytest.raises(RowError, match="conversation 0: tools: Gemma's turns have no place"):
        chatty.chat(HELLO, SAMPLING, tools=[{"name": "get_time"}])


def test_control_tokens_in_texts_stay_text_where_that_is_asked_for():
    text = "Say <end_of_turn> and <eos>."
    with load(tokenizer=TOKENIZER, special_tokens="text") as generator:
        ids = generator.encode(text)
        assert generator.decode(ids) == text
    assert WORDS.piece_to_id("<end_of_turn>") not in ids
    with pytest.raises(UserError, match="special_tokens is 'no'; give one of auto, parse, text"):
        load(special_tokens="no")


@pytest.mark.parametrize(
    ("messages", "error", "told"),
    [
        ("Hello", UserError, "messages is a single text; give a list of messages"),
        ([], UserError, "messages is empty"),
        (["Hello"], UserError, r"messages\[0\] is a str"),
        ([HELLO, 5], UserError, r"messages\[1\] is an int"),
        ([HELLO, [{"role": "user"}]], RowError, r"conversation 1: messages\[0\].content"),
    ],
)
def test_what_is_no_chat_is_told(chatty, messages, error, told):
    with pytest.raises(error, match=told):
        chatty.chat(messages)


def test_results_come_as_they_finish_with_the_place_of_their_prompts(generator):
    prompts = [[1, 2], [1, 3], [1, 4]]
    sampling = [{"max_tokens": n, "temperature": 0, "ignore_eos": True} for n in (200, 100, 5)]
    found = list(generator.generate_iter(prompts, sampling))
    assert [index for index, _ in found] == [2, 1, 0]
    assert [done for _, done in sorted(found, key=lambda pair: pair[0])] == generator.generate(
        prompts, sampling
    )


def test_closing_the_iterator_ends_what_is_not_finished(generator):
    results = generator.generate_iter([[1, 2], [1, 3]], [{"max_tokens": 1}, {"max_tokens": None}])
    next(results)
    results.close()
    assert generator._loop.opened().occupied == 0


def test_a_bad_prompt_is_told_before_the_iterator_begins(generator):
    with pytest.raises(RowError, match="prompt 1: "):
        generator.generate_iter([[1], None])


def test_progress_is_told_to_a_function(generator):
    seen: list[Progress] = []
    generator.generate([[1, 2], [1, 3]], {**SAMPLING, "ignore_eos": True}, progress=seen.append)
    assert (seen[-1].done, seen[-1].total, seen[-1].tokens) == (2, 2, 16)
    assert [one.tokens for one in seen] == sorted(one.tokens for one in seen)


def test_the_progress_of_scoring_is_told_as_it_goes(generator):
    seen: list[Progress] = []
    texts = [[1] * 200, [2] * 30, [3]]
    found = generator.score(texts, progress=seen.append)
    assert len(seen) > 2
    assert (seen[-1].done, seen[-1].total, seen[-1].tokens) == (3, 3, 199 + 29)
    assert [len(one) for one in found] == [199, 29, 0]


def test_scoring_that_is_broken_off_leaves_nothing_behind(generator):
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generator.score([[1] * 200, [2] * 30], progress=stop)
    assert generator._loop.opened().waiting == 0
    seen: list[Progress] = []
    assert len(generator.score([[1, 2]], progress=seen.append)[0]) == 1
    assert seen[-1].tokens == 1


def test_progress_true_shows_it_on_stderr(generator, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    generator.generate([[1, 2]], {**SAMPLING, "ignore_eos": True}, progress=True)
    assert shown.getvalue().startswith("1/1 done, 8 tokens, ")


def test_prompt_log_probabilities_are_the_scores_of_the_prompts(generator):
    prompts = [[1, 2, 3], [4]]
    done = generator.generate(prompts, {**SAMPLING, "n": 2}, prompt_logprobs=True)
    scores = generator.score(prompts)
    for completion, score in zip(done, [scores[0]] * 2 + [scores[1]] * 2, strict=True):
        np.testing.assert_array_equal(completion.prompt_logprobs, score)
    assert generator.generate([[1]], {"max_tokens": 1})[0].prompt_logprobs is None


def test_the_tokenizer_is_that_of_the_prompts(generator):
    text = "\x01\x02\x03"
    assert generator.encode(text) == WORDS.encode(text)
    assert generator.encode(pa.scalar(text), bos=False) == WORDS.encode(text, bos=False)
    assert generator.decode(generator.encode(text)) == text
    assert generator.decode(np.array(generator.encode(text))) == text
    assert generator.decode([]) == ""


@pytest.mark.parametrize("ids", ["text", [-1], [1.5], b"a", None])
def test_what_is_no_list_of_token_ids_is_not_decoded(generator, ids):
    with pytest.raises(RowError, match="token ids"):
        generator.decode(ids)


def test_without_a_tokenizer_words_and_chats_are_refused():
    bare = Generator.load(HF, dtype="float32", slots=1, prefill_chunk=16)
    for call in (lambda: bare.encode("a"), lambda: bare.decode([1]), lambda: bare.chat(HELLO)):
        with pytest.raises(WeightsError, match="needs a tokenizer; name one with tokenizer="):
            call()


def test_loading_tells_what_it_does():
    told: list[str] = []
    load(progress=told.append).close()
    assert any(text.startswith("reading weights, ") for text in told)
    assert told[-1] == ""


def test_only_what_takes_long_is_a_line_on_stderr():
    stream, now = io.StringIO(), [0.0]
    lines = StageLines(stream, lambda: now[0])
    texts = ["reading 1", "reading 2", "reading 3", "compiling a", "", "compiling b", "compiling c"]
    for second, text in zip([1, 3, 4, 5, 6, 7, 11], texts, strict=True):
        now[0] = float(second)
        lines(text)
    lines.stop()
    now[0] = 60.0
    lines("compiling d")
    assert stream.getvalue().splitlines() == ["reading 2", "compiling a", "compiling c"]
