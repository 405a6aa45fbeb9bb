"""A model in this process, and the calls to it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.activity import Activity
from rgpipeline.errors import RowError, UserError
from rgpipeline.generator.arguments import Prompt, SamplingLike, plain, prompt_value, section
from rgpipeline.generator.calls import Watch, completions, pieces, scores, stages_for, watch_for
from rgpipeline.generator.request_maker import Messages, RequestMaker, Samplings, Tools, open_model
from rgpipeline.generator.running_sequence import Completion
from rgpipeline.records import Request, ResolvedSettings
from rgpipeline.spec import EngineSpec, MeshSpec, ModelSpec


class Generator:
    """A model on this process's devices, ready to continue prompts.

    Any number of threads may use it at once: their sequences share the slots. It belongs to the
    process that loaded it; after a fork, or once closed, it raises UserError.
    """

    def __init__(
        self, settings: ResolvedSettings, requests: RequestMaker, activity: Activity
    ) -> None:
        """For `Generator.load`."""
        self.settings = settings
        self._activity = activity
        self._requests = requests
        self._loop = requests.loop

    @classmethod
    def load(
        cls,
        weights: str | Path,
        *,
        adapter: str | Path | None = None,
        base: str | Path | None = None,
        tokenizer: str | None = None,
        chat_template: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        quantize: Literal["none", "int8"] = "none",
        slots: int | Literal["auto"] = 8,
        prefill_chunk: int | Literal["auto"] = "auto",
        steps_per_dispatch: int | Literal["auto"] = "auto",
        mesh: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Mapping[str, Any]] | None = None,
        cache: str | Path | None = None,
        progress: bool | Callable[[str], None] = False,
    ) -> Self:
        """Opens a checkpoint folder (a path, any fsspec URL, or `demo`).

        Args:
          weights: Hugging Face folder or official Flax checkpoint folder, or a LoRA adapter's.
          adapter: a LoRA adapter's folder, to merge; base: of the adapter that `weights` is.
          tokenizer: default: tokenizer.model or tokenizer.json beside the weights; without one,
            prompts are token ids and completions have no text.
          chat_template: a Jinja template's text, or its file or folder; default: the one beside
            the weights, else Gemma's turns. Its `strftime_now` tells when it is first used.
          dtype: of weights and states; `auto` is float32 on a CPU.
          quantize: int8 halves the memory of weights and of attention's state, next to bfloat16.
          slots: sequences decoded at once.
          prefill_chunk, steps_per_dispatch: tokens and steps of one call to the device.
          mesh: this process's chips, divided: `{"data": 4, "model": 2}`; default: one chip.
          storage_options: fsspec options by protocol; `${NAME}` reads the environment.
          cache: a local folder for copies of remote weights; default: read into memory.
          progress: True writes to stderr what takes long, now and whenever a program is compiled.
            A function is called with each step (`compiling decode`; "" at the end).

        Raises:
          WeightsError: the checkpoint or tokenizer can't be used.
          StoreError: their store doesn't answer.
          UserError: an option that isn't valid.
        """
        folders = {"weights": weights, "adapter": adapter, "base": base}
        model = section(
            ModelSpec,
            **{key: str(url) for key, url in folders.items() if url is not None},
            tokenizer=tokenizer,
            chat_template=chat_template,
            dtype=dtype,
            quantize=quantize,
        )
        engine = section(
            EngineSpec,
            slots=slots,
            prefill_chunk=prefill_chunk,
            steps_per_dispatch=steps_per_dispatch,
        )
        activity = Activity(stages_for(progress))
        opened, requests = open_model(
            *(model, engine),
            mesh=section(MeshSpec, "mesh", **mesh) if mesh else None,
            storage_options=storage_options,
            cache=Path(cache) if cache else None,
            activity=activity,
        )
        return cls(opened.settings, requests, activity)

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Samplings = None,
        ids: Sequence[str] | None = None,
        *,
        prompt_logprobs: bool = False,
        progress: bool | Watch = False,
    ) -> list[Completion]:
        """Continues every prompt.

        Args:
          prompts: texts (BOS is put before them) or lists of token ids, taken as they are; also
            an array, or a column of Arrow, pandas or polars, of either.
          sampling: one for all, or one for each prompt; keys as in a job file's `sampling:`.
          ids: names of the rows, which seed the random bits; default: each prompt's index.
          prompt_logprobs: also return the prompts' log-probabilities, which are computed first.
          progress: True shows it on stderr; a function is called with a `Progress` at each step.

        Returns:
          Completions in the order of the prompts; with `n` > 1, all samples of a prompt follow
          each other.

        Raises RowError naming a prompt by its index, where nothing was generated; UserError for
        sampling options that are not valid.
        """
        requests = self._requests.prompts(prompts, sampling, ids)
        return self._all(requests, prompt_logprobs, progress)

    def generate_iter(
        self,
        prompts: Sequence[Prompt],
        sampling: Samplings = None,
        ids: Sequence[str] | None = None,
        *,
        prompt_logprobs: bool = False,
    ) -> Iterator[tuple[int, Completion]]:
        """As `generate`, but yields each completion as soon as it is finished, with its index.

        The index is that in `generate`'s list. Closing the iterator cancels unfinished sequences.
        """
        requests = self._requests.prompts(prompts, sampling, ids)
        return self._as_completed(requests, prompt_logprobs)

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling: Samplings = None,
        ids: Sequence[str] | None = None,
        *,
        tools: Tools = None,
        prompt_logprobs: bool = False,
        progress: bool | Watch = False,
    ) -> list[Completion]:
        """Answers one conversation, or each of a list of them.

        `messages` are dicts of `role` and `content`, as in the job file's `messages` column;
        `tools` are those that the model may call, in all of them. The answer ends where the model
        ends its turn. Otherwise as `generate`; one conversation gives a list of one completion.
        Raises RowError naming conversation, message and field; WeightsError without a template.
        """
        requests = self._requests.chats(messages, sampling, ids, tools)
        return self._all(requests, prompt_logprobs, progress)

    def stream(
        self, prompt: Prompt, sampling: SamplingLike | None = None, row_id: str = "0"
    ) -> Iterator[str]:
        """Pieces of one completion's text as they come, without a limit of length.

        Memory stays constant. Closing the iterator frees the slot. Raises as `generate` does.
        """
        return self._stream(self._requests.prompts([prompt], sampling, [row_id]))

    def stream_chat(
        self,
        messages: Messages,
        sampling: SamplingLike | None = None,
        row_id: str = "0",
        *,
        tools: Tools = None,
    ) -> Iterator[str]:
        """As `stream`, for the answer to one conversation with these `tools`."""
        return self._stream(self._requests.chats([messages], sampling, [row_id], tools))

    def score(
        self, prompts: Sequence[Prompt], *, progress: bool | Watch = False
    ) -> list[NDArray[np.float32]]:
        """Log-probability of each token given those before it, float32 [len - 1] each.

        Raises RowError naming a prompt by its index; UserError if `prompts` isn't a list.
        """
        return scores(self._loop, self._requests.tokens(prompts), watch_for(progress))

    def encode(self, text: str, *, bos: bool = True) -> list[int]:
        """The token ids of a text as `generate` makes them; BOS is first unless `bos` is false.

        Raises RowError if it is not a text, WeightsError without a tokenizer.
        """
        return self._requests.require_tokenizer("encode").encode(plain(text), bos=bos)

    def decode(self, token_ids: Sequence[int] | NDArray[np.integer[Any]]) -> str:
        """The text of token ids, [n] >= 0; BOS, EOS and padding have none.

        Raises RowError when they are no ids, WeightsError without a tokenizer.
        """
        ids = prompt_value(token_ids)
        if isinstance(ids, str) or (ids.size and ids.min() < 0):
            raise RowError("decode takes token ids: a list of whole numbers from 0")
        return self._requests.require_tokenizer("decode").decode(ids)

    def close(self) -> None:
        """Frees the device's memory. Unfinished calls of other threads raise UserError."""
        self._activity.end()
        self._loop.close()

    def __enter__(self) -> Self:
        self._loop.opened()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Generator can't be pickled or copied; load one in each process")

    def _all(
        self, requests: list[Request], prompt_logprobs: bool, progress: bool | Watch
    ) -> list[Completion]:
        watch = watch_for(progress)
        found = dict(self._as_completed(requests, prompt_logprobs, watch))
        return [found[index] for index in range(len(requests))]

    def _as_completed(
        self, requests: list[Request], prompt_logprobs: bool, watch: Watch = lambda _: None
    ) -> Iterator[tuple[int, Completion]]:
        scored: Mapping[Any, NDArray[np.float32]] = {}
        if prompt_logprobs:
            texts = {request.key: request.tokens for request in requests}
            scored = dict(zip(texts, scores(self._loop, list(texts.values())), strict=True))
        for index, done in completions(self._loop, self._requests.tokenizer, requests, watch):
            yield index, done.with_prompt(scored.get(requests[index].key))

    def _stream(self, requests: list[Request]) -> Iterator[str]:
        tokenizer = self._requests.require_tokenizer("streaming text")
        if len(requests) > 1:
            raise UserError("sampling.n: a stream is one sample; use generate for more")
        return pieces(self._loop, tokenizer, requests[0])
