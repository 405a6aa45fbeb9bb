"""A model in this process, and what is asked of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.factory import OpenedEngine, open_engine, use_compilation_cache
from rgpipeline.errors import RowError, UserError, WeightsError
from rgpipeline.generator.options import SamplingLike, samplings, section
from rgpipeline.generator.prompts import Prompt, elements, prompt_value, row_ids
from rgpipeline.generator.sequence import Completion, Underway
from rgpipeline.io.contact import require_answers
from rgpipeline.io.options import resolve_options
from rgpipeline.records import Request, draw_words
from rgpipeline.spec import EngineSpec, MeshSpec, ModelSpec
from rgpipeline.text.completion import CompletionText
from rgpipeline.text.named_stops import with_named_tokens
from rgpipeline.text.tokenizer import Tokenizer

_WANTED = "a list of prompts"

CACHE = Path.home() / ".cache" / "rgpipeline" / "programs"


class Generator:
    """A model in this process's devices, ready to continue prompts. For one thread at a time."""

    def __init__(self, opened: OpenedEngine, tokenizer: Tokenizer | None) -> None:
        """Most people want `Generator.load`."""
        self._loop = opened.loop
        self._tokenizer = tokenizer
        self._underway: dict[int, Underway] = {}
        self._next_key = 0
        self.settings = opened.settings

    @classmethod
    def load(
        cls,
        weights: str | Path,
        *,
        tokenizer: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        quantize: Literal["none", "int8"] = "none",
        slots: int | Literal["auto"] = 8,
        prefill_chunk: int | Literal["auto"] = "auto",
        steps_per_dispatch: int | Literal["auto"] = "auto",
        mesh: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Mapping[str, Any]] | None = None,
        cache: str | Path | None = None,
    ) -> "Generator":
        """Opens a checkpoint folder (a path, any fsspec URL, or `demo`).

        Args:
          weights: Hugging Face folder or official Flax checkpoint folder.
          tokenizer: default: tokenizer.model beside the weights; without one, prompts are token
            ids and completions have no text.
          dtype: of weights and state; `auto` is float32 on a CPU.
          quantize: int8 halves the memory of weights and of attention's state, next to bfloat16.
          slots: sequences decoded at once.
          prefill_chunk, steps_per_dispatch: tokens and steps of one call to the device.
          mesh: how this process's chips are divided: `{"data": 4, "model": 2}`; one chip without
            it.
          storage_options: fsspec options by protocol; `${NAME}` reads the environment.
          cache: a local folder for copies of remote weights, shared by all processes; without it
            they are read straight into memory.

        Raises:
          WeightsError: the checkpoint or tokenizer can't be used.
          StoreError: their store doesn't answer.
          UserError: an option that isn't valid.
        """
        model = section(
            ModelSpec, weights=str(weights), tokenizer=tokenizer, dtype=dtype, quantize=quantize
        )
        engine = section(
            EngineSpec,
            slots=slots,
            prefill_chunk=prefill_chunk,
            steps_per_dispatch=steps_per_dispatch,
        )
        chips = section(MeshSpec, "mesh", **mesh) if mesh else None
        options = resolve_options(storage_options)
        require_answers([model.weights, model.tokenizer], options)
        words = _open_tokenizer(model, options)
        use_compilation_cache(CACHE)
        weights_cache = None if cache is None else Path(cache)
        opened = open_engine(model, engine, options, mesh=chips, cache=weights_cache)
        if words is not None and model.tokenizer is None:
            words.require_within(opened.loop.vocab_size)
        return cls(opened, words)

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: SamplingLike | Sequence[SamplingLike] | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[Completion]:
        """Continues every prompt.

        Args:
          prompts: texts (BOS is put before them) or lists of token ids, taken as they are; also
            an array, or a column of Arrow, pandas or polars, of either.
          sampling: one for all, or one for each prompt; keys as in a job file's `sampling:`.
          ids: names of the rows for the random bits; default: each prompt's place in the list.

        Returns:
          Completions in the order of the prompts; with `n` > 1, each prompt's samples in a row.

        Raises:
          RowError: a prompt that can't be done, named by its place; nothing was generated.
          UserError: sampling options that are not valid.
        """
        keys = self._begin(list(self._requests(prompts, sampling, ids)), keep=True)
        try:
            while any(self._underway[key].finish is None for key in keys):
                self._pump()
            return [self._underway[key].completion() for key in keys]
        finally:
            self._end(keys)

    def stream(
        self, prompt: Prompt, sampling: SamplingLike | None = None, row_id: str = "0"
    ) -> Iterator[str]:
        """Pieces of one completion's text as they come, for as long as it goes on.

        Memory stays constant. Closing the iterator frees the slot. Raises as `generate` does.
        """
        if self._tokenizer is None:
            raise WeightsError("streaming text needs a tokenizer; name one with tokenizer=")
        requests = list(self._requests([prompt], sampling, [row_id]))
        if len(requests) > 1:
            raise UserError("sampling.n: a stream is one sample; use generate for more")
        return self._pieces(requests[0])

    def score(self, prompts: Sequence[Prompt]) -> list[NDArray[np.float32]]:
        """Log-probability of each token given those before it, float32 [len - 1] each.

        Raises:
          RowError: a prompt that can't be done, named by its place.
          UserError: `prompts` isn't a list.
        """
        given = elements(prompts, "prompts", _WANTED)
        return self._loop.score([self._tokens(p, place) for place, p in enumerate(given)])

    def _requests(
        self,
        prompts: Sequence[Prompt],
        sampling: SamplingLike | Sequence[SamplingLike] | None,
        ids: Sequence[str] | None,
    ) -> Iterator[Request]:
        given = elements(prompts, "prompts", _WANTED)
        each, names = samplings(sampling, len(given)), row_ids(ids, len(given))
        for place, (prompt, one, name) in enumerate(zip(given, each, names, strict=True)):
            if one.stop and self._tokenizer is None:
                raise UserError("sampling.stop needs a tokenizer; use stop_ids or tokenizer=")
            if self._tokenizer is not None:
                one = with_named_tokens(one, self._tokenizer)
            tokens = self._tokens(prompt, place)
            for sample in range(one.n):
                request = Request(place, tokens, one, draw_words(one.seed, name, sample))
                with _of_prompt(place):
                    self._loop.check(request)
                yield request

    def _tokens(self, prompt: object, place: int) -> NDArray[np.int32]:
        with _of_prompt(place):
            ids = self._encode(prompt)
            self._loop.check_tokens(ids)
        return ids.astype(np.int32)

    def _encode(self, prompt: object) -> NDArray[np.integer[Any]]:
        value = prompt_value(prompt)
        if not isinstance(value, str):
            return value
        if self._tokenizer is None:
            raise RowError("it is text, and the model has no tokenizer; give token ids")
        ids = np.asarray(self._tokenizer.encode(value))
        if ids.max() >= self._loop.vocab_size:
            self._tokenizer.require_within(self._loop.vocab_size)
        return ids

    def _begin(self, requests: Iterable[Request], *, keep: bool) -> list[int]:
        """Queues requests; returns their keys, which are ours from now on."""
        keys = []
        for request in requests:
            key, self._next_key = self._next_key, self._next_key + 1
            sampling, text = request.sampling, None
            if self._tokenizer is not None:
                text = CompletionText(self._tokenizer, sampling.stop, unmatched=sampling.min_tokens)
            self._underway[key] = Underway(text, keep)
            self._loop.submit([Request(key, request.tokens, sampling, request.draw)])
            keys.append(key)
        return keys

    def _pump(self) -> None:
        """One step of the loop; what it brings is given to the sequences it belongs to."""
        for emission in self._loop.step():
            key = emission.key
            assert isinstance(key, int)
            sequence = self._underway.get(key)
            if sequence is None:
                continue
            sequence.take(emission)
            if sequence.finish is not None and emission.finish is None:
                self._loop.cancel(key)

    def _end(self, keys: Iterable[int]) -> None:
        """Forgets sequences; those not finished (somebody lost interest) leave their slots."""
        for key in keys:
            if self._underway.pop(key).finish is None:
                self._loop.cancel(key)

    def _pieces(self, request: Request) -> Iterator[str]:
        keys = self._begin([request], keep=False)
        sequence = self._underway[keys[0]]
        try:
            going = True
            while going:
                if sequence.finish is None:  # another call's steps may have brought its end
                    self._pump()
                going = sequence.finish is None
                if text := sequence.take_pieces():
                    yield text
            if sequence.error is not None:
                raise RowError(sequence.error)
        finally:
            self._end(keys)


@contextmanager
def _of_prompt(place: int) -> Iterator[None]:
    """Names the prompt in the RowErrors of the block."""
    try:
        yield
    except RowError as error:
        raise RowError(f"prompt {place}: {error}") from None


def _open_tokenizer(
    model: ModelSpec, storage_options: Mapping[str, Mapping[str, Any]]
) -> Tokenizer | None:
    """The tokenizer named, or the one beside the weights, if there is one."""
    if model.tokenizer is not None:
        return Tokenizer.load(model.tokenizer, storage_options)
    return Tokenizer.find(model.weights, storage_options)
