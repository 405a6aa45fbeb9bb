"""What callers ask for, checked and made into requests."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.activity import Activity
from rgpipeline.engine.factory import OpenedEngine, open_engine, use_compilation_cache
from rgpipeline.errors import RowError, UserError, WeightsError
from rgpipeline.generator.arguments import (
    IN_PYTHON,
    SamplingLike,
    elements,
    kind_of,
    listed,
    plain,
    prompt_value,
    row_ids,
    samplings,
)
from rgpipeline.generator.shared_loop import SharedLoop
from rgpipeline.records import Request, draw_words
from rgpipeline.spec import EngineSpec, MeshSpec, ModelSpec, Sampling
from rgpipeline.storage.filesystems import resolve_options
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.stops import with_named_tokens, with_turn_end
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.wording import said_as

Samplings = SamplingLike | Sequence[SamplingLike | None] | None
Messages = Sequence[Mapping[str, Any]]
Tokens = NDArray[np.int32]


@dataclass
class RequestMaker:
    """Makes requests for one loop. A request's key is the place of its prompt.

    All methods raise RowError for a prompt that can't be done, named by its place, and UserError
    for anything else that is wrong.
    """

    loop: SharedLoop
    tokenizer: Tokenizer | None
    open_chat: Callable[[Tokenizer], ChatTemplate]

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """Raises WeightsError when the model has none, or no tokenizer."""
        return self.open_chat(self.words("a chat"))

    def words(self, what: str) -> Tokenizer:
        """The tokenizer, which `what` needs. Raises WeightsError when there is none."""
        if self.tokenizer is None:
            raise WeightsError(f"{what} needs a tokenizer; name one with tokenizer=")
        return self.tokenizer

    def prompts(self, prompts: object, sampling: Samplings, ids: object) -> list[Request]:
        """A request for each sample of each prompt, those of one prompt in a row."""
        tokens = self.tokens(prompts)
        return self._requests(tokens, samplings(sampling, len(tokens)), ids, "prompt")

    def chats(self, messages: object, sampling: Samplings, ids: object) -> list[Request]:
        """As `prompts`, of one conversation or a list of them."""
        template, chats = self.chat_template, conversations(messages)
        tokens = []
        for place, chat in enumerate(chats):
            with _of("conversation", place):
                ids_of_chat = self._within(template.encode(chat))
                self.loop.opened().check_tokens(ids_of_chat)
                tokens.append(ids_of_chat.astype(np.int32))
        each = samplings(sampling, len(chats))
        each = [with_turn_end(one, template.stop_ids) for one in each]
        return self._requests(tokens, each, ids, "conversation")

    def tokens(self, prompts: object) -> list[Tokens]:
        """Token ids [n] of each prompt, n >= 1."""
        given = elements(prompts, "prompts", "a list of prompts")
        tokens = []
        for place, prompt in enumerate(given):
            with _of("prompt", place):
                ids = self._encode(prompt)
                self.loop.opened().check_tokens(ids)
                tokens.append(ids.astype(np.int32))
        return tokens

    def _encode(self, prompt: object) -> NDArray[np.integer[Any]]:
        value = prompt_value(prompt)
        if not isinstance(value, str):
            return value
        if self.tokenizer is None:
            raise RowError("it is text, and the model has no tokenizer; give token ids")
        return self._within(self.tokenizer.encode(value))

    def _within(self, ids: list[int]) -> NDArray[np.int64]:
        """The ids of a text. Raises WeightsError if the tokenizer is larger than the model."""
        size = self.loop.opened().vocab_size
        if max(ids) >= size and self.tokenizer is not None:
            with said_as(IN_PYTHON):
                self.tokenizer.require_within(size)
        return np.asarray(ids)

    def _requests(
        self, tokens: list[Tokens], each: list[Sampling], ids: object, what: str
    ) -> list[Request]:
        requests = []
        names = row_ids(ids, len(tokens))
        for place, (prompt, sampling, name) in enumerate(zip(tokens, each, names, strict=True)):
            if sampling.stop and self.tokenizer is None:
                raise UserError("sampling.stop needs a tokenizer; use stop_ids or tokenizer=")
            if self.tokenizer is not None:
                sampling = with_named_tokens(sampling, self.tokenizer)
            for sample in range(sampling.n):
                draw = draw_words(sampling.seed, name, sample)
                requests.append(Request(place, prompt, sampling, draw))
            with _of(what, place):
                self.loop.opened().check(requests[-1])
        return requests


def conversations(messages: object) -> list[object]:
    """One conversation (a list of messages), or a list or column of them, as a list of them."""
    wanted = 'a list of messages, such as [{"role": "user", "content": "Hello"}], or of such lists'
    given = [plain(one) for one in listed(plain(messages), "messages", wanted)]
    if not given:
        raise UserError(f"messages is empty; give {wanted}")
    if isinstance(given[0], dict):
        return [given]
    for place, one in enumerate(given):
        if isinstance(one, str | bytes) or not hasattr(one, "__iter__"):
            raise UserError(f"messages[{place}] is {kind_of(one)}; give {wanted}")
    return [[plain(message) for message in one] for one in given]


@contextmanager
def _of(what: str, place: int) -> Iterator[None]:
    """Names the prompt in the RowErrors of the block."""
    try:
        yield
    except RowError as error:
        raise RowError(f"{what} {place}: {error}") from None


CACHE = Path.home() / ".cache" / "rgpipeline" / "programs"

StorageOptions = Mapping[str, Mapping[str, Any]]


def open_model(
    model: ModelSpec,
    engine: EngineSpec,
    *,
    mesh: MeshSpec | None,
    storage_options: StorageOptions | None,
    cache: Path | None,
    activity: Activity,
) -> tuple[OpenedEngine, RequestMaker]:
    """The engine of a model, and what makes requests for it. Raises as `Generator.load` does."""
    options = resolve_options(storage_options)
    check_reachable((url for _, url in model.urls()), options)
    with said_as(IN_PYTHON):
        tokenizer = _open_tokenizer(model, options)
    use_compilation_cache(CACHE)
    opened = open_engine(model, engine, options, mesh=mesh, cache=cache, activity=activity)
    if tokenizer is not None and model.tokenizer is None:
        with said_as(IN_PYTHON):
            tokenizer.require_within(opened.loop.vocab_size)
    open_chat = partial(_open_chat, model, options)
    return opened, RequestMaker(SharedLoop(opened.loop), tokenizer, open_chat)


def _open_tokenizer(model: ModelSpec, options: StorageOptions) -> Tokenizer | None:
    """The tokenizer named, or the one beside the weights, if there is one."""
    if model.tokenizer is not None:
        return Tokenizer.load(model.tokenizer, options)
    return Tokenizer.find(model.weights, options)


def _open_chat(model: ModelSpec, options: StorageOptions, tokenizer: Tokenizer) -> ChatTemplate:
    with said_as(IN_PYTHON):
        return ChatTemplate.load(
            model.weights,
            tokenizer,
            options,
            template=model.chat_template,
            tokenizer_url=model.tokenizer,
        )
