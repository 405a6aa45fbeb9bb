"""Prompts, or their completions, as texts to score."""

from dataclasses import replace

import numpy as np

from rgpipeline.engine.text_requests import TextRequest
from rgpipeline.errors import RowError, UserError
from rgpipeline.generator.arguments import elements, several_prompts
from rgpipeline.generator.request_maker import RequestMaker, named


def prompt_texts(
    maker: RequestMaker, prompts: object, from_state: object = None
) -> list[TextRequest]:
    """A text for each prompt, of which all own tokens are scored that follow one.

    `from_state`: what the prompts follow, see `starts`. Raises as `completed_texts`.
    """
    pairs = enumerate(zip(*maker.prompt_tokens(prompts, from_state), strict=True))
    return [
        TextRequest(index, tokens, 1 if start is None else len(start.tail), start=start)
        for index, (tokens, start) in pairs
    ]


def completed_texts(
    maker: RequestMaker, prompts: object, completions: object, from_state: object
) -> list[TextRequest]:
    """As `prompt_texts`, with each prompt's completions; a single one counts as a list of one.

    Raises RowError naming prompt and completion by their indices; UserError for other mistakes.
    """
    texts = prompt_texts(maker, prompts, from_state)
    wanted = "a list with a text, or a list of texts, for each prompt"
    given = elements(completions, "completions", wanted)
    if len(given) != len(texts):
        raise UserError(f"completions: {len(given)} for {len(texts)} prompts; give {wanted}")
    pairs = enumerate(zip(texts, given, strict=True))
    return [_completed(maker, index, *pair) for index, pair in pairs]


def _completed(maker: RequestMaker, index: int, prompt: TextRequest, given: object) -> TextRequest:
    several = several_prompts(given)
    tokens = []
    for number, one in enumerate([given] if several is None else several):
        with named("prompt", f"{index}, completion {number}"):
            ids = maker.encode(one, bos=False)
            if len(ids):
                maker.loop.opened().check_tokens(ids)
            tokens.append(ids.astype(np.int32))
    if not tokens:
        raise RowError(f"prompt {index}: it has no completions; give at least one")
    text = np.concatenate([prompt.tokens, tokens[0]])
    return replace(prompt, tokens=text, first=len(prompt.tokens), others=tuple(tokens[1:]))
