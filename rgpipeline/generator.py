"""The embedded face: one process, no Ray, no files.

g = Generator.load("path-or-url", slots=8)
g.generate(["In the beginning"], {"max_tokens": 40})
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rgpipeline.engine.factory import OpenedEngine, open_engine, use_compilation_cache
from rgpipeline.errors import RowError, UserError, WeightsError
from rgpipeline.records import Emission, FinishReason, Request, TokenLogprobs, draw_words
from rgpipeline.spec import EngineSpec, ModelSpec, Sampling
from rgpipeline.text.completion import CompletionText
from rgpipeline.text.tokenizer import Tokenizer

Prompt = str | Sequence[int]
SamplingLike = Sampling | Mapping[str, Any]

CACHE = Path.home() / ".cache" / "rgpipeline" / "programs"


@dataclass(frozen=True, slots=True)
class Completion:
    """What a prompt was continued with.

    `text` is None when the model has no tokenizer. `token_ids` are all that were sampled, without
    the end-of-sequence or stop token; where a stop string ended the text, up to the token that
    completed it. `logprobs` is None unless the sampling asked for them.
    """

    text: str | None
    token_ids: list[int]
    finish_reason: FinishReason
    logprobs: TokenLogprobs | None = None


@dataclass(slots=True)
class _Sequence:
    """One sequence under way: what came, and what was not handed out yet."""

    text: CompletionText | None
    keep: bool
    pieces: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish: FinishReason | None = None
    error: str | None = None

    def take(self, emission: Emission) -> bool:
        """Adds an emission; True if a stop string ended the sequence."""
        self.error = emission.error
        if self.keep:
            self.token_ids.extend(emission.token_ids.tolist())
            if emission.logprobs is not None:
                self.logprobs.append(emission.logprobs)
        self.finish = emission.finish
        if self.text is None or emission.error is not None:
            return False
        cut = self.text.push(emission.token_ids)
        self.pieces.append(cut.emit)
        if cut.hit is None and emission.finish is not None:
            cut = self.text.flush()
            self.pieces.append(cut.emit)
        if cut.hit is not None:
            self.finish = "stop"
        return cut.hit is not None


class Generator:
    """A model in this process's devices, ready to continue prompts."""

    def __init__(self, opened: OpenedEngine, tokenizer: Tokenizer | None) -> None:
        """Most people want `Generator.load`."""
        self._loop = opened.loop
        self._tokenizer = tokenizer
        self._sequences: dict[int, _Sequence] = {}
        self._next_key = 0
        self.settings = opened.settings

    @classmethod
    def load(
        cls,
        weights: str,
        *,
        tokenizer: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        quantize: Literal["none", "int8"] = "none",
        slots: int | Literal["auto"] = 8,
        prefill_chunk: int | Literal["auto"] = "auto",
        steps_per_dispatch: int | Literal["auto"] = "auto",
        storage_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> "Generator":
        """Opens a checkpoint folder (a path, any fsspec URL, or `demo`).

        Args:
          weights: Hugging Face folder or official Flax checkpoint folder.
          tokenizer: default: tokenizer.model beside the weights; without one, prompts are token
            ids and completions have no text.
          dtype: of weights and state; `auto` is float32 on a CPU.
          quantize: int8 halves the weights' memory.
          slots: sequences decoded at once.
          prefill_chunk, steps_per_dispatch: tokens and steps of one call to the device.
          storage_options: fsspec options by protocol.

        Raises:
          WeightsError: the checkpoint or tokenizer can't be used.
        """
        use_compilation_cache(CACHE)
        try:
            model = ModelSpec(weights=weights, tokenizer=tokenizer, dtype=dtype, quantize=quantize)
            engine = EngineSpec(
                slots=slots, prefill_chunk=prefill_chunk, steps_per_dispatch=steps_per_dispatch
            )
        except ValidationError as error:
            raise UserError(_first_fault(error)) from None
        opened = open_engine(model, engine, storage_options or {})
        return cls(opened, _open_tokenizer(weights, tokenizer, storage_options or {}))

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: SamplingLike | Sequence[SamplingLike] | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[Completion]:
        """Continues every prompt.

        Args:
          prompts: texts (BOS is put before them) or lists of token ids, taken as they are.
          sampling: one for all, or one for each prompt; keys as in a job file's `sampling:`.
          ids: names of the rows for the random bits; default: each prompt's place in the list.

        Returns:
          Completions in the order of the prompts; with `n` > 1, each prompt's samples in a row.

        Raises:
          RowError: a prompt that can't be done, named by its place; nothing was generated.
          UserError: sampling options that are not valid.
        """
        requests = list(self._requests(prompts, sampling, ids))
        keys = [self._begin(request, keep=True) for request in requests]
        while any(self._sequences[key].finish is None for key in keys):
            self._pump()
        return [self._completion(self._sequences.pop(key)) for key in keys]

    def stream(
        self, prompt: Prompt, sampling: SamplingLike | None = None, row_id: str = "0"
    ) -> Iterator[str]:
        """Pieces of one completion's text as they come, for as long as it goes on.

        Memory stays constant. Closing the iterator frees the slot. Raises as `generate` does.
        """
        if self._tokenizer is None:
            raise WeightsError("streaming text needs a tokenizer; name one with tokenizer=")
        (request, *more) = self._requests([prompt], sampling, [row_id])
        if more:
            raise UserError("sampling.n: a stream is one sample; use generate for more")
        return self._pieces(self._begin(request, keep=False))

    def score(self, prompts: Sequence[Prompt]) -> list[NDArray[np.float32]]:
        """Log-probability of each token given those before it, float32 [len - 1] each.

        Raises:
          RowError: a prompt that can't be done, named by its place.
        """
        return self._loop.score([self._tokens(p, place) for place, p in enumerate(prompts)])

    def _requests(
        self,
        prompts: Sequence[Prompt],
        sampling: SamplingLike | Sequence[SamplingLike] | None,
        ids: Sequence[str] | None,
    ) -> Iterator[Request]:
        if isinstance(prompts, str):
            raise UserError("prompts is a single text; give a list of prompts")
        samplings = _samplings(sampling, len(prompts))
        if ids is not None and len(ids) != len(prompts):
            raise UserError(f"ids: {len(ids)} names for {len(prompts)} prompts")
        names = [str(place) for place in range(len(prompts))] if ids is None else ids
        for place, prompt in enumerate(prompts):
            one, name = samplings[place], str(names[place])
            if one.stop and self._tokenizer is None:
                raise UserError("sampling.stop needs a tokenizer; use stop_ids or tokenizer=")
            tokens = self._tokens(prompt, place)
            for sample in range(one.n):
                yield Request(place, tokens, one, draw_words(one.seed, name, sample))

    def _tokens(self, prompt: Prompt, place: int) -> NDArray[np.int32]:
        try:
            ids = self._encode(prompt)
            if ids.ndim != 1 or not len(ids):
                raise RowError("no tokens; give a text, or a list of at least one token id")
            self._loop.check_tokens(ids)
        except RowError as error:
            raise RowError(f"prompt {place}: {error}") from None
        return ids

    def _encode(self, prompt: Prompt) -> NDArray[np.int32]:
        if isinstance(prompt, str):
            if self._tokenizer is None:
                raise RowError("it is text, and the model has no tokenizer; give token ids")
            return np.asarray(self._tokenizer.encode(prompt), np.int32)
        ids = np.asarray(prompt)
        if ids.size and ids.dtype.kind not in "iu":
            raise RowError(f"expected text or token ids, found {type(prompt).__name__}")
        return ids.astype(np.int32)

    def _begin(self, request: Request, *, keep: bool) -> int:
        key, self._next_key = self._next_key, self._next_key + 1
        sampling = request.sampling
        text = None
        if self._tokenizer is not None:
            text = CompletionText(self._tokenizer, sampling.stop, unmatched=sampling.min_tokens)
        self._sequences[key] = _Sequence(text, keep)
        self._loop.submit([Request(key, request.tokens, sampling, request.draw)])
        return key

    def _pump(self) -> None:
        """One step of the loop; what it brings is given to the sequences it belongs to."""
        for emission in self._loop.step():
            key = emission.key
            assert isinstance(key, int)
            if self._sequences[key].take(emission) and emission.finish is None:
                self._loop.cancel(key)

    def _pieces(self, key: int) -> Iterator[str]:
        sequence = self._sequences[key]
        try:
            while sequence.finish is None:
                self._pump()
                text, sequence.pieces = "".join(sequence.pieces), []
                if text:
                    yield text
            if sequence.error is not None:
                raise RowError(sequence.error)
        finally:
            if sequence.finish is None:
                self._loop.cancel(key)
            del self._sequences[key]

    def _completion(self, sequence: _Sequence) -> Completion:
        if sequence.error is not None or sequence.finish is None:
            raise RowError(sequence.error or "the sequence never finished")
        logprobs = None
        if sequence.logprobs:
            fields = [(p.sampled, p.top_ids, p.top) for p in sequence.logprobs]
            logprobs = TokenLogprobs(*(np.concatenate(part) for part in zip(*fields, strict=True)))
        text = "".join(sequence.pieces) if sequence.text else None
        return Completion(text, sequence.token_ids, sequence.finish, logprobs)


def _samplings(
    sampling: SamplingLike | Sequence[SamplingLike] | None, count: int
) -> list[Sampling]:
    if sampling is None or isinstance(sampling, Sampling | Mapping):
        return [_sampling({} if sampling is None else sampling)] * count
    if len(sampling) != count:
        raise UserError(f"sampling: {len(sampling)} settings for {count} prompts")
    return [_sampling(one) for one in sampling]


def _sampling(options: SamplingLike) -> Sampling:
    try:
        return options if isinstance(options, Sampling) else Sampling(**options)
    except ValidationError as error:
        raise UserError(f"sampling.{_first_fault(error)}") from None


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"


def _open_tokenizer(
    weights: str, tokenizer: str | None, storage_options: Mapping[str, Mapping[str, Any]]
) -> Tokenizer | None:
    """The tokenizer named, or the one beside the weights, if there is one."""
    if tokenizer is not None:
        return Tokenizer.load(tokenizer, storage_options)
    try:
        return Tokenizer.load(weights, storage_options)
    except WeightsError:
        return None
