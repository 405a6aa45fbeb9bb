"""Stop strings that name tokens without text become those tokens."""

import pytest

from rgpipeline.spec import Sampling
from rgpipeline.text.stops import never_found, with_named_tokens
from rgpipeline.text.tokenizer import Tokenizer


@pytest.mark.parametrize("name", ["<eos>", "<bos>", "<pad>"])
def test_a_stop_string_that_names_a_silent_token_is_its_id_too(
    tokenizer: Tokenizer, name: str
) -> None:
    sampling = with_named_tokens(Sampling(stop=("END", name), stop_ids=(9,)), tokenizer)
    assert sampling.stop_ids == (9, tokenizer.piece_to_id(name))
    assert sampling.stop == ("END", name)


@pytest.mark.parametrize("stop", ["<end_of_turn>", "END", "\n\n", "<no_such_token>", "eos"])
def test_a_stop_string_that_may_be_found_in_text_stays_text_alone(
    tokenizer: Tokenizer, stop: str
) -> None:
    assert with_named_tokens(Sampling(stop=stop), tokenizer).stop_ids == ()


def test_a_silent_token_amid_other_text_is_never_found(tokenizer: Tokenizer) -> None:
    stops = ["a<eos>", "<eos>", "<end_of_turn>\n", "<b>", "a < b"]
    assert never_found(stops, tokenizer) == [("a<eos>", "<eos>")]
