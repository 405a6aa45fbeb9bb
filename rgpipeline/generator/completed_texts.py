"""Prompts and their completions as texts to score."""

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.text_requests import TextRequest
from rgpipeline.errors import RowError, UserError
from rgpipeline.generator.arguments import elements, several_prompts
from rgpipeline.generator.request_maker import RequestMaker, named


def completed_texts(maker: RequestMaker, prompts: object, completions: object) -> list[TextRequest]:
    """A text for each prompt, with its completions; a single one counts as a list of one.

    Raises RowError naming prompt and completion by their indices; UserError for other mistakes.
    """
    texts = maker.tokens(prompts)
    wanted = "a list with a text, or a list of texts, for each prompt"
    given = elements(completions, "completions", wanted)
    if len(given) != len(texts):
        raise UserError(f"completions: {len(given)} for {len(texts)} prompts; give {wanted}")
    pairs = enumerate(zip(texts, given, strict=True))
    return [_completed(maker, index, *pair) for index, pair in pairs]


def _completed(
    maker: RequestMaker, index: int, prompt: NDArray[np.int32], given: object
) -> TextRequest:
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
    text = np.concatenate([prompt, tokens[0]])
    return TextRequest(index, text, len(prompt), tuple(tokens[1:]))
