"""The parameters of OpenAI's requests, and of vLLM's: which mean what here.

A parameter is one of ours under another name, or has no effect on an answer, or must ask for
nothing else than what is done anyway. Everything else is refused by name: an answer that ignored
half of its request would look right.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rgpipeline.errors import RowError

_MOST_LOGPROBS = 20

_SAME = {  # OpenAI's names, and those that vLLM added, for the same thing
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",  # the newer name counts where both are given
    "min_tokens": "min_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "n": "n",
    "seed": "seed",
    "stop": "stop",
    "stop_token_ids": "stop_ids",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repetition_penalty": "repetition_penalty",
    "logit_bias": "logit_bias",
    "ignore_eos": "ignore_eos",
}
_OF_NO_EFFECT = {  # on the answer: who asks, how urgently, what a server may keep
    "model",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "parallel_tool_calls",  # there are no tools
    "include_reasoning",  # there is no reasoning
    "spaces_between_special_tokens",  # special tokens are left out of texts
    "guided_decoding_backend",  # of constraints, which are refused
    "request_id",
    "priority",
    "cache_salt",
}
_ELSEWHERE = {"prompt", "messages", "logprobs", "top_logprobs"}


def _one_of(*values: Any) -> Callable[[Any], bool]:
    """Whether a value is one of these, of the same type: 0 is not False."""
    return lambda value: any(type(value) is type(one) and value == one for one in values)


_off, _on, _empty = _one_of(False), _one_of(True), _one_of([], {})
_HARMLESS: dict[str, Callable[[Any], bool]] = {  # values that ask for nothing we lack
    "stream": _off,
    "stream_options": lambda value: isinstance(value, dict) and not {*value} - {"include_usage"},
    "echo": _off,
    "best_of": _one_of(1),
    "suffix": _one_of(""),
    "tools": _empty,
    "tool_choice": _one_of("none", "auto"),  # without tools, both are none
    "functions": _empty,
    "function_call": _one_of("none", "auto"),
    "response_format": _one_of({"type": "text"}),
    "modalities": _one_of(["text"]),
    "reasoning_effort": _one_of("none"),
    "verbosity": _one_of("medium"),
    "moderation": _empty,
    "use_beam_search": _off,
    "length_penalty": _one_of(1, 1.0),  # of beams
    "early_stopping": _off,
    "include_stop_str_in_output": _off,
    "skip_special_tokens": _on,
    "return_tokens_as_token_ids": _off,
    "return_token_ids": _off,
    "allowed_token_ids": _empty,
    "bad_words": _empty,
    "logits_processors": _empty,
    "documents": _empty,
    "chat_template_kwargs": _empty,
    "mm_processor_kwargs": _empty,
    "kv_transfer_params": _empty,
    "vllm_xargs": _empty,
    "add_generation_prompt": _on,
    "continue_final_message": _off,
}


def sampling_of(body: Mapping[str, Any], chat: bool) -> dict[str, Any]:
    """What a request's body asks for, by our names. Raises RowError naming what can't be done."""
    sampling: dict[str, Any] = {}
    for name, value in body.items():
        if value is None or name in _OF_NO_EFFECT or name in _ELSEWHERE:
            continue
        if name in _SAME:
            sampling[_SAME[name]] = value
        elif not _asks_for_nothing(name, value, chat):
            raise RowError(f"body.{name}: not supported; remove it")
    if sampling.get("top_k") == -1:  # vLLM's way to keep all
        sampling["top_k"] = 0
    if body.get("max_completion_tokens") is not None:
        sampling["max_tokens"] = body["max_completion_tokens"]
    asked = top_logprobs(body, chat)
    # Ours counts the most probable tokens from 2; 1 is the sampled token's alone.
    return sampling if asked is None else {**sampling, "logprobs": max(2, asked) if asked else 1}


def top_logprobs(body: Mapping[str, Any], chat: bool) -> int | None:
    """How many of the most probable tokens are asked for; None without log-probabilities.

    Raises RowError.
    """
    asked, top = body.get("logprobs"), body.get("top_logprobs")
    if chat:
        if asked not in (None, False, True) or type(asked) is int:
            raise RowError("body.logprobs: true or false is expected in a chat")
        if top and not asked:
            raise RowError("body.top_logprobs: needs logprobs: true")
        name, count = "top_logprobs", (top or 0)
    else:
        if top:
            raise RowError("body.top_logprobs: is for chats; a completion has logprobs: NUMBER")
        name, count = "logprobs", asked
    if asked is None or asked is False:
        return None
    if type(count) is not int or not 0 <= count <= _MOST_LOGPROBS:
        raise RowError(f"body.{name}: a number is expected, from 0 to {_MOST_LOGPROBS}")
    return count


def _asks_for_nothing(name: str, value: Any, chat: bool) -> bool:
    if name == "add_special_tokens":  # a prompt has one BOS, whoever writes it
        return value is not chat and isinstance(value, bool)
    return name in _HARMLESS and _HARMLESS[name](value)
