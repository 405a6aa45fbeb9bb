"""A text read once and continued later: the same bits as one prompt."""

import numpy as np
import pytest

from rgpipeline import Generator, State
from rgpipeline.errors import InputError, RowError, UserError
from tests.generator.conftest import HF

CHUNK = 16  # tokens, of the fixture's model
GREEDY = {"temperature": 0, "ignore_eos": True, "max_tokens": 8, "logprobs": 1}
TEXT = np.random.default_rng(0).integers(3, 200, 150).tolist()


def bits(done) -> tuple[list[int], bytes]:
    return done.token_ids, done.logprobs.sampled.tobytes()


@pytest.mark.parametrize("cut", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 100, 149])
def test_what_follows_a_state_gets_the_bits_of_the_whole_prompt(generator, cut):
    (whole,) = generator.generate([TEXT], GREEDY)
    state = generator.read(TEXT[:cut])
    (continued,) = generator.generate([TEXT[cut:]], GREEDY, from_state=state)
    assert state.position == cut
    assert bits(continued) == bits(whole)


def test_a_state_is_continued_without_anything_after_it(generator):
    (whole,) = generator.generate([TEXT], GREEDY)
    (continued,) = generator.generate([[]], GREEDY, from_state=generator.read(TEXT))
    assert bits(continued) == bits(whole)


def test_a_state_is_read_on(generator):
    (whole,) = generator.generate([TEXT], GREEDY)
    state = generator.read(TEXT[40:90], from_state=generator.read(TEXT[:40]))
    (continued,) = generator.generate([TEXT[90:]], GREEDY, from_state=state)
    assert bits(continued) == bits(whole)
    assert state.text.address == generator.read(TEXT[:90]).text.address


def test_many_prompts_continue_one_state_or_each_its_own(generator):
    read = [generator.read(TEXT[:cut]) for cut in (70, 90)]
    starts = [read[0]] * 6 + [read[1], None]
    tails = [TEXT[100:104], TEXT[120:]] * 4
    done = generator.generate(tails, GREEDY, ids=["x"] * 8, from_state=starts)
    befores = [TEXT[:70]] * 6 + [TEXT[:90], []]
    whole = generator.generate(
        [[*before, *tail] for before, tail in zip(befores, tails, strict=True)],
        GREEDY,
        ids=["x"] * 8,
    )
    assert [bits(one) for one in done] == [bits(one) for one in whole]


def test_draws_and_penalties_go_on_as_in_one_prompt(generator):
    sampling = {"max_tokens": 8, "ignore_eos": True, "repetition_penalty": 1.8, "n": 2}
    whole = generator.generate([TEXT], sampling, ids=["a"])
    state = generator.read(TEXT[:130])
    continued = generator.generate([TEXT[130:]], sampling, ids=["a"], from_state=state)
    assert [one.token_ids for one in continued] == [one.token_ids for one in whole]


def test_a_completion_is_continued_from_its_state(generator):
    (first,) = generator.generate([TEXT], GREEDY, keep_state=True)
    more = TEXT[:20]
    (whole,) = generator.generate([[*TEXT, *first.token_ids, *more]], GREEDY)
    (continued,) = generator.generate([more], GREEDY, from_state=first.state)
    assert first.state.position == len(TEXT) + len(first.token_ids)
    assert bits(continued) == bits(whole)


def test_a_state_in_a_file_is_the_same_state(generator, tmp_path):
    state = generator.read(TEXT)
    state.save(tmp_path / "states" / "text.safetensors")
    loaded = State.load(tmp_path / "states" / "text.safetensors")
    assert (loaded.position, loaded.text.address) == (len(TEXT), state.text.address)
    (one, other) = (generator.generate([[5, 6]], GREEDY, from_state=s)[0] for s in (state, loaded))
    assert bits(one) == bits(other)


def test_a_text_after_a_state_gets_no_beginning_of_text(generator):
    state = generator.read("\x01\x02")
    tokens = [*generator.encode("\x01\x02"), *generator.encode("\x03", bos=False)]
    (whole,) = generator.generate([tokens], GREEDY)
    (continued,) = generator.generate(["\x03"], GREEDY, from_state=state)
    assert bits(continued) == bits(whole)
    assert "".join(generator.stream("\x03", GREEDY, from_state=state)) == whole.text


def test_the_prefix_cache_shares_a_state_and_changes_no_bit(generator):
    """More prompts than slots, so that some find the state on the device and others upload it."""
    state = generator.read(TEXT[:64])
    tails = [[*TEXT[64:100], index] for index in range(3, 13)]
    together = generator.generate(tails, GREEDY, ids=["x"] * 10, from_state=state)
    alone = [generator.generate([t], GREEDY, ids=["x"], from_state=state)[0] for t in tails]
    assert [bits(one) for one in together] == [bits(one) for one in alone]


@pytest.mark.parametrize("cut", [1, CHUNK, 3 * CHUNK + 5, 100, 149])
def test_scores_after_a_state_have_the_bits_that_they_have_in_one_text(generator, cut):
    first = min(cut + 10, 149)
    completions = [TEXT[first:], TEXT[:7]]
    state = generator.read(TEXT[:cut])
    (whole,) = generator.score([TEXT[:first]], [completions])
    (after,) = generator.score([TEXT[cut:first]], [completions], from_state=state)
    (given,) = generator.score([TEXT[:cut]], [TEXT[cut:]])
    (own,) = generator.score([TEXT[cut:]], from_state=state)
    assert [one.token_logprobs.tobytes() for one in after] == [
        one.token_logprobs.tobytes() for one in whole
    ]
    assert own.tobytes() == given.token_logprobs.tobytes()


def test_scored_prompts_follow_each_its_own_state_or_none(generator):
    states = [generator.read(TEXT[:70]), None]
    texts = [TEXT[70:], TEXT[:20]]
    found = generator.score(texts, from_state=states)
    apart = [generator.score([one], from_state=s)[0] for one, s in zip(texts, states, strict=True)]
    assert [len(one) for one in found] == [80, 19]
    assert [one.tobytes() for one in found] == [one.tobytes() for one in apart]


def test_a_state_of_another_model_is_refused_with_both_values(generator):
    other = Generator.load(HF, dtype="float32", quantize="int8", slots=1, prefill_chunk=16)
    with pytest.raises(RowError, match=r"prompt 0: the state has int8 as model.quantize, .* none"):
        generator.generate([[5]], from_state=other.read([3, 4]))
    with pytest.raises(RowError, match=r"prompt 0: the state has int8 as model.quantize, .* none"):
        generator.score([[5]], from_state=other.read([3, 4]))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"from_state": "state.safetensors"}, "from_state is a single text; give a State"),
        ({"from_state": [None, None]}, "from_state: 2 states for 1 prompts"),
        ({"from_state": [7]}, r"from_state\[0\] is an int; give a State"),
    ],
)
def test_what_is_no_state_is_refused(generator, options, fault):
    with pytest.raises(UserError, match=fault):
        generator.generate([[5]], **options)


def test_a_missing_or_damaged_file_is_named(generator, tmp_path):
    path = tmp_path / "state.safetensors"
    with pytest.raises(InputError, match=r"state\.safetensors: no state is there"):
        State.load(path)
    generator.read(TEXT).save(path)
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"not a state that can be read \(its checksum"):
        State.load(path)
