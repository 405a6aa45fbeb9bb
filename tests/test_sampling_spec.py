"""A sampling parameter is declared once, in the spec; rows and OpenAI's requests follow from it."""

import pytest
import yaml

from rgpipeline.io.openai_requests import sampling_of
from rgpipeline.spec import Sampling, facts_of, openai_names
from rgpipeline.tasks.row_sampling import row_sampling

EXAMPLES = {
    name: yaml.safe_load(facts_of(info)["example"]) for name, info in Sampling.model_fields.items()
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_row_may_override_every_parameter(name: str) -> None:
    wanted = Sampling(**{name: EXAMPLES[name]})
    assert row_sampling(Sampling(), {name: EXAMPLES[name]}) == wanted != Sampling()


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"logprobs"}))
def test_an_openai_request_may_set_every_parameter(name: str) -> None:
    theirs = [their for their, ours in openai_names().items() if ours == name]
    assert theirs
    for their in theirs:
        assert sampling_of({their: EXAMPLES[name]}, chat=True) == {name: EXAMPLES[name]}


def test_the_last_of_several_names_counts() -> None:
    body = {"max_completion_tokens": 3, "max_tokens": 2}
    assert sampling_of(body, chat=True) == {"max_tokens": 3}
