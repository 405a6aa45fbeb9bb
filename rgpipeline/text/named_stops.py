"""Which tokens end a text, beside those that `stop_ids` gives.

Those that end a chat's turn, and those that a stop string names though they have no text, such as
`<eos>`: no text ever contains them.
"""

import re
from collections.abc import Sequence

from rgpipeline.spec import Sampling
from rgpipeline.text.tokenizer import Tokenizer

_NAME = re.compile(r"<[^<>\s]+>")


def with_turn_end(sampling: Sampling, turn_end: Sequence[int]) -> Sampling:
    """`sampling` for a chat: it ends where the model ends its turn, as at end-of-sequence."""
    return sampling if sampling.ignore_eos else _with(sampling, turn_end)


def with_named_tokens(sampling: Sampling, tokenizer: Tokenizer) -> Sampling:
    """`sampling`, with `stop_ids` for the stop strings that name tokens without text.

    The stop strings stay: a model may also spell one out, character by character.
    """
    found = (token_without_text(stop, tokenizer) for stop in sampling.stop)
    named = [index for index in found if index is not None]
    return _with(sampling, named)


def never_found(stops: Sequence[str], tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """Stop strings with a token without text amid other text; each with that token's name."""
    return [
        (stop, name)
        for stop in stops
        for name in _NAME.findall(stop)
        if name != stop and token_without_text(name, tokenizer) is not None
    ]


def token_without_text(name: str, tokenizer: Tokenizer) -> int | None:
    """The id of the token that is called `name` and adds nothing to a text; None if none is."""
    index = tokenizer.piece_to_id(name)
    return index if index is not None and not tokenizer.decode([index]) else None


def _with(sampling: Sampling, ids: Sequence[int]) -> Sampling:
    stop_ids = tuple(dict.fromkeys((*sampling.stop_ids, *ids)))
    more = stop_ids != sampling.stop_ids
    return sampling.model_copy(update={"stop_ids": stop_ids}) if more else sampling
