"""A model in this process: opened, closed, and its tokenizer."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, get_args

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.activity import Activity
from rgpipeline.errors import RowError, UserError
from rgpipeline.generator.arguments import plain, prompt_value
from rgpipeline.generator.calls import stages_for
from rgpipeline.generator.request_maker import Messages, RequestMaker, open_model
from rgpipeline.generator.request_runner import RequestRunner
from rgpipeline.jobfile.spec_faults import section
from rgpipeline.records import ResolvedSettings
from rgpipeline.spec import EngineSpec, MeshSpec, ModelSpec, SpecialTokens
from rgpipeline.text.tokenizer import Tokenizer


class LoadedModel:
    """A model on this process's devices."""

    def __init__(
        self, settings: ResolvedSettings, requests: RequestMaker, activity: Activity
    ) -> None:
        """For `Generator.load`."""
        self.settings = settings
        self._activity = activity
        self._requests = requests
        self._loop = requests.loop
        self._run = RequestRunner(requests)

    @classmethod
    def load(
        cls,
        weights: str | Path,
        *,
        adapter: str | Path | None = None,
        base: str | Path | None = None,
        tokenizer: str | None = None,
        chat_template: str | None = None,
        special_tokens: SpecialTokens = "auto",
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
          special_tokens: control tokens in texts, as in the job file's `input:`; `text` keeps them
            text.
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
        if special_tokens not in get_args(SpecialTokens):
            ways = ", ".join(get_args(SpecialTokens))
            raise UserError(f"special_tokens is {special_tokens!r}; give one of {ways}")
        activity = Activity(stages_for(progress))
        opened, requests = open_model(
            *(model, engine),
            mesh=section(MeshSpec, "mesh", **mesh) if mesh else None,
            storage_options=storage_options,
            cache=Path(cache) if cache else None,
            activity=activity,
            special_tokens=special_tokens,
        )
        return cls(opened.settings, requests, activity)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer. Raises WeightsError when it has none."""
        return self._requests.require_reader("this").tokenizer

    def render_chat(self, messages: Messages) -> str:
        """The text of the prompt that `chat` makes of a conversation. Raises as `chat`."""
        return self._requests.chat_template.render(messages)

    def encode(self, text: str, *, bos: bool = True) -> list[int]:
        """The token ids of a text as `generate` makes them; BOS is first unless `bos` is false.

        Raises RowError when `text` is not a text, WeightsError without a tokenizer.
        """
        return self._requests.require_reader("encode").read(plain(text), bos=bos)

    def decode(self, token_ids: Sequence[int] | NDArray[np.integer[Any]]) -> str:
        """The text of token ids, [n] >= 0; BOS, EOS and padding have no text.

        Raises RowError when they are not token ids, WeightsError without a tokenizer.
        """
        ids = prompt_value(token_ids)
        if isinstance(ids, str) or (ids.size and ids.min() < 0):
            raise RowError("decode takes token ids: a list of whole numbers from 0")
        return self._requests.require_reader("decode").tokenizer.decode(ids)

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
