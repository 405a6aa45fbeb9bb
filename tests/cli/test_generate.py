"""`generate`: where a text ends."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.cli.app import call
from rgpipeline.generator import Generator


@pytest.mark.parametrize(
    ("options", "goes_on"),
    [
        ([], False),
        (["--max-tokens", "20000"], True),
        (["--max-tokens", "20000", "--stop-at-eos"], False),
        (["--ignore-eos"], True),
    ],
)
def test_a_text_asked_for_at_length_goes_on_past_its_ends(
    options: list[str], goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    class Told:
        def stream(self, prompt: str, sampling: dict[str, Any]) -> Iterator[str]:
            asked.append(sampling)
            return iter(())

    monkeypatch.setattr(Generator, "load", lambda *_, **__: nullcontext(Told()))
    assert call(["generate", "--model", "demo", "In the beginning", *options]) == 0
    assert asked[0]["ignore_eos"] is goes_on


def test_a_chat_asks_for_the_answer_to_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Told:
        def stream_chat(self, messages: Any, sampling: dict[str, Any]) -> Iterator[str]:
            asked.append(messages)
            return iter(())

    monkeypatch.setattr(Generator, "load", lambda *_, **__: nullcontext(Told()))
    assert call(["generate", "--model", "demo", "--chat", "Hello"]) == 0
    assert asked == [[{"role": "user", "content": "Hello"}]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tokenizer", "t/tokenizer.json"], "model as --tokenizer"),
        (["--tokenizer", "nowhere"], "give its address as --tokenizer"),
        (["--chat", "--chat-template", "nowhere"], "give --chat-template a template's file"),
        (["--chat-template", "t.jinja"], "--chat-template is for chats; give --chat, too"),
    ],
)
def test_settings_have_the_names_of_their_options(
    options: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "tokenizer.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    code = call(["generate", "--model", "demo", "Hello", *options])
    told = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert says in told
    assert "tokenizer=" not in told
    assert "model.tokenizer" not in told
