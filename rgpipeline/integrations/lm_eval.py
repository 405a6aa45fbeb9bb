"""lm-evaluation-harness: a model of its own kind, `rgpipeline`.

    python -m rgpipeline.integrations.lm_eval --model rgpipeline \\
        --model_args pretrained=gs://models/2b,dtype=bfloat16 --tasks hellaswag

The harness finds models in a registry inside its process and has no entry points for others. So
this module registers ours when it is imported, and then is the harness's own command.
"""

import sys
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from rgpipeline.errors import RgpipelineError, UserError
from rgpipeline.generator import Generator, Score
from rgpipeline.spec import Sampling

Pair = tuple[list[int], list[int]]  # tokens of a context, and of what is scored after it

# Of the harness's generation arguments, those that are no keys of ours and change nothing.
_DONE = {"do_sample": (True, False), "num_beams": (1,)}
# What the harness's command passes where its options are not given.
_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "batch_size": (None, 1, "1"),
    "device": (None, "cuda:0"),
}
_OWN = Sampling.model_fields.keys() - {"stop", "max_tokens", "n"}


@register_model("rgpipeline")
class GriffinLM(TemplateLM):  # type: ignore[misc]  # the harness has no types
    """A RecurrentGemma model in this process; all requests of a task share its slots.

    Texts become tokens as the harness's Hugging Face back end makes them: control tokens that a
    text spells are read as such, and BOS is put first. There is no limit of length, so contexts
    are never cut; only `loglikelihood_rolling` has windows, of `max_length` tokens.
    """

    def __init__(
        self,
        pretrained: str,
        adapter: str | None = None,
        base: str | None = None,
        tokenizer: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        quantize: Literal["none", "int8"] = "none",
        slots: int | Literal["auto"] = 32,
        prefill_chunk: int | Literal["auto"] = "auto",
        max_length: int = 2048,
        max_gen_toks: int = 256,
        add_bos_token: bool = True,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        """`pretrained` to `prefill_chunk`: see `Generator.load`, where it is called `weights`.

        Args:
          max_length: tokens of a window of `loglikelihood_rolling`.
          max_gen_toks: tokens to generate at most, for tasks that don't say it.
          add_bos_token: whether BOS is put before texts.
          batch_size, max_batch_size, device: of the harness's command; only its defaults.

        Raises as `Generator.load`.
        """
        super().__init__()
        unset = batch_size in _DEFAULTS["batch_size"] and device in _DEFAULTS["device"]
        if not unset or max_batch_size is not None:
            raise UserError(
                "batch_size, max_batch_size and device are for other models: give slots in "
                "--model_args for the sequences at once, and JAX_PLATFORMS for the device"
            )
        self.model = Generator.load(
            pretrained,
            adapter=adapter,
            base=base,
            tokenizer=tokenizer,
            special_tokens="parse",
            dtype=dtype,
            quantize=quantize,
            slots=slots,
            prefill_chunk=prefill_chunk,
            progress=True,
        )
        self.max_length = max_length
        self.max_gen_toks = max_gen_toks
        self._bos = add_bos_token
        self._name = pretrained

    @property
    def eot_token_id(self) -> int:
        return self.model.tokenizer.eos_id

    @property
    def prefix_token_id(self) -> int:
        return self.model.tokenizer.bos_id

    @property
    def tokenizer_name(self) -> str:
        return self._name.replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: object
    ) -> list[int]:
        bos = self._bos if add_special_tokens is None else add_special_tokens
        return self.model.encode(string, bos=bos)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        if not add_generation_prompt:
            raise UserError("a chat that ends within the model's turn: rgpipeline begins a new one")
        return self.model.render_chat(chat_history)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        pairs: list[Pair] = []
        counts = []
        for request in requests:
            (text,) = request.args
            tokens = self.tok_encode(text)
            windows = get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, 1)
            pairs += map(make_disjoint_window, windows)
            counts.append(len(pairs))
        scores = [score.logprob for score in self._scores(pairs, not disable_tqdm)]
        return [sum(scores[a:b]) for a, b in zip([0, *counts], counts, strict=False)]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        prompts = [self.tok_encode(request.args[0]) for request in requests]
        sampling = [self._sampling(request.args[1]) for request in requests]
        found = self.model.generate(prompts, sampling, _ids(requests), progress=not disable_tqdm)
        return [completion.text or "" for completion in found]

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        **_: object,
    ) -> list[tuple[float, bool]]:
        pairs = [(context, continuation) for _, context, continuation in requests]
        scores = self._scores(pairs, not disable_tqdm)
        return [(score.logprob, score.is_greedy) for score in scores]

    def _scores(self, pairs: Sequence[Pair], progress: bool) -> list[Score]:
        """The score of each pair; a context that several pairs have is read once."""
        by_context: dict[tuple[int, ...], list[int]] = {}
        for index, (context, _) in enumerate(pairs):
            by_context.setdefault(tuple(context), []).append(index)
        completions = [[pairs[index][1] for index in group] for group in by_context.values()]
        found = self.model.score(list(by_context), completions, progress=progress)
        scores: dict[int, Score] = {}
        for group, of_context in zip(by_context.values(), found, strict=True):
            scores |= zip(group, of_context, strict=True)
        return [scores[index] for index in range(len(pairs))]

    def _sampling(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Our sampling keys for the harness's generation arguments. Raises UserError."""
        given = dict(normalize_gen_kwargs(dict(arguments), self.max_gen_toks))
        sampling = {
            "max_tokens": given.pop("max_gen_toks"),
            "stop": [text for text in given.pop("until") if text],
            "temperature": given.pop("temperature", 0.0 if not given["do_sample"] else 1.0),
        }
        for key, value in given.items():
            if key in _OWN:
                sampling[key] = value
            elif value not in _DONE.get(key, ()):
                raise UserError(f"generation_kwargs: {key}: {value!r} is not known to rgpipeline")
        return sampling


def _ids(requests: Sequence[Instance]) -> list[str]:
    """Names for the random bits: a document's samples are numbered, and draw differently."""
    seen: Counter[Hashable] = Counter()
    names = []
    for request in requests:
        document = (request.task_name, request.doc_id)
        names.append(f"{request.task_name}/{request.doc_id}/{seen[document]}")
        seen[document] += 1
    return names


def main() -> None:
    """The harness's command. Exits with 2, and a message, on a mistake in the model's arguments."""
    try:
        cli_evaluate()
    except RgpipelineError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
