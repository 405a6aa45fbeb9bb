"""Opens a Generator's model, and turns what callers pass into requests."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import repeat
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
    conversations,
    elements,
    prompt_value,
    row_ids,
    samplings,
    starts,
)
from rgpipeline.generator.shared_loop import SharedLoop
from rgpipeline.model.weights.model_source import ModelSource, resolve_source
from rgpipeline.read_texts import ReadText
from rgpipeline.records import Request
from rgpipeline.spec import EngineSpec, MeshSpec, ModelSpec, Sampling, SpecialTokens
from rgpipeline.storage.filesystems import resolve_options
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.tasks.generate_task import sample_requests
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.grammar_check import GrammarCheck
from rgpipeline.text.grammars import TextGrammars
from rgpipeline.text.stops import with_named_tokens, with_turn_end
from rgpipeline.text.text_reader import TextReader
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.wording import said_as

Samplings = SamplingLike | Sequence[SamplingLike | None] | None
Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]] | None
Tokens = NDArray[np.int32]
Encode = Callable[[Any, ReadText | None], NDArray[np.integer[Any]]]  # a prompt, what it follows


@dataclass
class RequestMaker:
    """Makes requests for one loop. A request's key is the index of its prompt.

    All methods raise RowError for a prompt that can't be done, named by its index, and UserError
    for any other mistake.
    """

    loop: SharedLoop
    reader: TextReader | None  # None without a tokenizer
    open_chat: Callable[[TextReader], ChatTemplate]
    check: GrammarCheck

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer, if there is one."""
        return None if self.reader is None else self.reader.tokenizer

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """Raises WeightsError when the model has none, or no tokenizer."""
        return self.open_chat(self.require_reader("a chat"))

    def require_reader(self, what: str) -> TextReader:
        """What reads texts, for what needs it. Raises WeightsError when there is no tokenizer."""
        if self.reader is None:
            raise WeightsError(f"{what} needs a tokenizer; name one with tokenizer=")
        return self.reader

    def prompts(
        self,
        prompts: object,
        sampling: Samplings,
        ids: object,
        from_state: object = None,
        keep: bool = False,
    ) -> list[Request]:
        """A request for each sample of each prompt, prompt by prompt.

        `from_state`: what the prompts continue, see `starts`. `keep`: keep what is read of them.
        """
        tokens, before = self.prompt_tokens(prompts, from_state)
        each = samplings(sampling, len(tokens))
        requests = self._requests(tokens, each, ids, "prompt", before)
        return [replace(request, keep_read=keep) for request in requests]

    def chats(
        self,
        messages: object,
        sampling: Samplings,
        ids: object,
        tools: Tools = None,
        from_state: object = None,
        keep: bool = False,
    ) -> list[Request]:
        """As `prompts`, for one conversation or a list of them, all with the same tools."""
        template, chats = self.chat_template, conversations(messages)

        def encode(chat: object, start: ReadText | None) -> NDArray[np.int64]:
            if start is None:
                return self._within(template.encode(chat, tools))
            return self._within(template.encode_after(chat, tools, in_turn=start.in_turn))

        before = starts(from_state, len(chats))
        tokens = self._tokens("conversation", chats, before, encode)
        each = [with_turn_end(s, template.stop_ids) for s in samplings(sampling, len(chats))]
        requests = self._requests(tokens, each, ids, "conversation", before)
        return [replace(request, keep_read=keep, in_turn=True) for request in requests]

    def prompt_tokens(
        self, prompts: object, from_state: object
    ) -> tuple[list[Tokens], list[ReadText | None]]:
        """What is to be read of each prompt, ids [n], n >= 1, and what it follows."""
        given = elements(prompts, "prompts", "a list of prompts")
        before = starts(from_state, len(given))
        tokens = self._tokens(
            *("prompt", given, before),
            lambda prompt, start: self.encode(prompt, bos=start is None),
        )
        return tokens, before

    def _tokens(
        self, what: str, given: Sequence[object], before: Sequence[ReadText | None], encode: Encode
    ) -> list[Tokens]:
        """The ids of each, after those of what it follows that must be read again."""
        tokens = []
        for index, (one, start) in enumerate(zip(given, before, strict=True)):
            with named(what, index):
                ids = encode(one, start)
                if start is not None:
                    ids = np.concatenate([start.tail, ids], dtype=np.int64)
                self.loop.opened().check_tokens(ids, start)
                tokens.append(ids.astype(np.int32))
        return tokens

    def encode(self, prompt: object, *, bos: bool = True) -> NDArray[np.integer[Any]]:
        """A prompt's ids [n]."""
        value = prompt_value(prompt)
        if not isinstance(value, str):
            return value
        if self.reader is None:
            raise RowError("it is text, and the model has no tokenizer; give token ids")
        return self._within(self.reader.read(value, bos=bos))

    def _within(self, ids: list[int]) -> NDArray[np.int64]:
        """A text's ids as an array. Raises WeightsError for one that the model doesn't know."""
        size = self.loop.opened().vocab_size
        if max(ids, default=0) >= size and self.tokenizer is not None:
            with said_as(IN_PYTHON):
                self.tokenizer.require_within(size)
        return np.asarray(ids, np.int64)

    def _requests(
        self,
        tokens: list[Tokens],
        each: list[Sampling],
        ids: object,
        what: str,
        before: Sequence[ReadText | None],
    ) -> list[Request]:
        requests: list[Request] = []
        names = row_ids(ids, len(tokens))
        given = zip(tokens, each, names, before, strict=True)
        for index, (prompt, sampling, name, start) in enumerate(given):
            if sampling.stop and self.tokenizer is None:
                raise UserError("sampling.stop needs a tokenizer; use stop_ids or tokenizer=")
            if (refused := self.check.refusal(sampling.structured_outputs)) is not None:
                raise UserError(f"sampling.{refused}")
            if self.tokenizer is not None:
                sampling = with_named_tokens(sampling, self.tokenizer)
            requests += sample_requests(prompt, sampling, name, repeat(index), start)
            with named(what, index):
                self.loop.opened().check(requests[-1])
        return requests


@contextmanager
def named(what: str, index: int | str) -> Iterator[None]:
    """Puts the prompt's name before the RowErrors of the block."""
    try:
        yield
    except RowError as error:
        raise RowError(f"{what} {index}: {error}") from None


_CACHE = Path.home() / ".cache" / "rgpipeline" / "programs"

StorageOptions = Mapping[str, Mapping[str, Any]]


def open_model(
    model: ModelSpec,
    engine: EngineSpec,
    *,
    mesh: MeshSpec | None,
    storage_options: StorageOptions | None,
    cache: Path | None,
    activity: Activity,
    special_tokens: SpecialTokens = "auto",
) -> tuple[OpenedEngine, RequestMaker]:
    """Opens a model's engine, and what makes requests for it. Raises as `Generator.load`."""
    options = resolve_options(storage_options)
    check_reachable((url for _, url in model.urls()), options)
    with said_as(IN_PYTHON):
        source = resolve_source(model, options)
        tokenizer = _open_tokenizer(source)
    use_compilation_cache(_CACHE)
    with said_as(IN_PYTHON):
        opened = open_engine(source, engine, mesh=mesh, cache=cache, activity=activity)
    if tokenizer is not None and model.tokenizer is None:
        with said_as(IN_PYTHON):
            tokenizer.require_within(opened.loop.vocab_size)
    reader = None if tokenizer is None else TextReader(tokenizer, special_tokens)
    check = GrammarCheck()
    if tokenizer is not None:
        loop = opened.loop
        loop.use_grammars(TextGrammars(tokenizer, loop.vocab_size, loop.eos_ids, check))
    open_chat = partial(_open_chat, source)
    return opened, RequestMaker(SharedLoop(opened.loop), reader, open_chat, check)


def _open_tokenizer(source: ModelSource) -> Tokenizer | None:
    """The tokenizer that is named, or the one beside the weights if there is one."""
    if source.spec.tokenizer is not None:
        return Tokenizer.load(source.tokenizer, source.options)
    return Tokenizer.find(source.tokenizer, source.options)


def _open_chat(source: ModelSource, reader: TextReader) -> ChatTemplate:
    with said_as(IN_PYTHON):
        return ChatTemplate.load(
            source.spec.weights,
            reader.tokenizer,
            source.options,
            template=source.spec.chat_template,
            tokenizer_url=source.tokenizer,
            reader=reader,
        )
