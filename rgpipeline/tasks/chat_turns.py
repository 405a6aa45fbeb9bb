"""Chats that are answered turn by turn: the assistant messages whose content is null are written.

Each turn follows the state at the end of the answer before it. What stands between two answers does
not depend on them, so the tokens of all turns are made before the first answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.chat_messages import Message, from_json, text_of

_MODEL = ("assistant", "model")


@dataclass(frozen=True, slots=True)
class ChatTurns:
    """A chat with the answers so far."""

    messages: tuple[Mapping[str, str | None], ...]  # role, content; None: still to be answered
    later: tuple[NDArray[np.int32], ...]  # tokens of the turns after the next answer
    prompt_tokens: int = 0  # of the turns that are answered
    completion_tokens: int = 0  # of their answers

    def answered(self, text: str, prompt_tokens: int, completion_tokens: int) -> "ChatTurns":
        """The chat with its next answer, to a prompt of so many tokens."""
        index = next(i for i, one in enumerate(self.messages) if one["content"] is None)
        answer = {**self.messages[index], "content": text}
        return replace(
            self,
            messages=(*self.messages[:index], answer, *self.messages[index + 1 :]),
            prompt_tokens=self.prompt_tokens + prompt_tokens,
            completion_tokens=self.completion_tokens + completion_tokens,
        )


def open_turns(template: ChatTemplate, value: object, tools: object) -> tuple[object, ChatTurns]:
    """The messages of the first turn, and the turns of the whole chat.

    `value`, `tools`: as `ChatTemplate.encode` takes them. Raises RowError naming message and field.
    """
    given = from_json(value, "messages")
    if not isinstance(given, Sequence) or not any(map(_is_open, given)):
        template.render(given, tools)
        return given, ChatTurns((*_plain(given), {"role": "assistant", "content": None}), ())
    last = given[-1] if _is_open(given[-1]) else {"role": "assistant", "content": None}
    asked = given[:-1] if _is_open(given[-1]) else given
    # Names faults by the messages' own numbers.
    template.render([{**one, "content": "."} if _is_open(one) else one for one in asked], tools)
    turns: list[list[Any]] = [[]]
    for one in asked:
        if _is_open(one):
            turns.append([])
        else:
            turns[-1].append(one)
    later = (template.encode_after(turn, tools, in_turn=True) for turn in turns[1:])
    tokens = tuple(np.asarray(turn, np.int32) for turn in later)
    return turns[0], ChatTurns((*_plain(asked), *_plain([last])), tokens)


def _is_open(message: object) -> bool:
    return (
        isinstance(message, Mapping)
        and message.get("role") in _MODEL
        and message.get("content") is None
        and not message.get("tool_calls")
    )


def _plain(messages: Any) -> list[Mapping[str, str | None]]:
    """Roles and texts alone."""
    return [
        {"role": one["role"], "content": None if _is_open(one) else _text(one)} for one in messages
    ]


def _text(message: Message) -> str:
    return "" if message.get("content") is None else text_of(message)
