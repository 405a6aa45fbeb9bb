"""Messages become Gemma's turns; what is wrong with them is named by message and field."""

import json
from collections.abc import Callable

import pytest

from rgpipeline.errors import RowError, WeightsError
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.tokenizer import Tokenizer

USER = {"role": "user", "content": "Hello"}
ANSWER = {"role": "assistant", "content": "Hi."}
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(scope="module")
def chat(tokenizer: Tokenizer) -> ChatTemplate:
    return ChatTemplate(tokenizer)


def test_one_question_is_written_as_the_official_formatter_does(chat: ChatTemplate) -> None:
    # recurrentgemma.common.apply_it_formatter("Hello")
    assert chat.render([USER]) == (
        "<start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n"
    )


@pytest.mark.parametrize("role", ["assistant", "model"])
def test_earlier_turns_come_first(chat: ChatTemplate, role: str) -> None:
    assert chat.render([USER, {**ANSWER, "role": role}, USER]) == (
        "<start_of_turn>user\nHello<end_of_turn>\n"
        "<start_of_turn>model\nHi.<end_of_turn>\n"
        "<start_of_turn>user\nHello<end_of_turn>\n"
        "<start_of_turn>model\n"
    )


def test_a_system_message_is_put_before_the_first_question(chat: ChatTemplate) -> None:
    assert chat.render([SYSTEM, USER]) == (
        "<start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_developer_message_is_a_system_message(chat: ChatTemplate) -> None:
    assert chat.render([{**SYSTEM, "role": "developer"}, USER]) == chat.render([SYSTEM, USER])


def test_ids_are_those_of_the_text_after_one_bos(chat: ChatTemplate, tokenizer: Tokenizer) -> None:
    assert chat.encode([USER]) == tokenizer.encode(chat.render([USER]))
    assert chat.encode([USER]).count(tokenizer.bos_id) == 1


def test_the_end_of_turn_stops(chat: ChatTemplate, tokenizer: Tokenizer) -> None:
    assert chat.stop_ids == (tokenizer.piece_to_id("<end_of_turn>"),)


def test_json_text_and_text_parts_mean_the_same(chat: ChatTemplate) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert chat.render([{"role": "user", "content": parts}]) == chat.render([USER])
    assert chat.render(json.dumps([USER])) == chat.render([USER])


def test_nulls_and_metadata_in_a_message_are_left_out(chat: ChatTemplate) -> None:
    assert chat.render([{**USER, "name": "Ada", "tool_calls": None}]) == chat.render([USER])


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        (None, "messages: a list of messages is expected, found null"),
        ({"role": "user"}, "messages: a list of messages is expected, found dict"),
        ("[{", "messages: text that is not JSON"),
        ([], "messages: the list is empty"),
        (["Hello"], "messages[0]: an object with role and content is expected, found str"),
        ([{"content": "Hello"}], "messages[0].role: missing"),
        ([USER, {"role": "tool", "content": ""}], "messages[1].role: 'tool' is not"),
        ([{"role": ["user"], "content": ""}], "messages[0].role: ['user'] is not"),
        ([{"role": "user"}], "messages[0].content: text is expected, found null"),
        ([{"role": "user", "content": 3}], "messages[0].content: text is expected, found int"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0]: only"),
        ([{**USER, "tool_calls": [{}]}], "messages[0].tool_calls: the chat template"),
        ([{**USER, "role": "critic"}], "messages[0].role: 'critic' is not user, assistant"),
        ([USER, SYSTEM], "messages[1].role: a system message may only come first"),
        ([USER, USER], "messages[1].role: 'user' where 'model' is due"),
        ([ANSWER], "messages[0].role: 'model' where 'user' is due"),
        ([SYSTEM], "messages[0].role: the last message must be the user's"),
        ([USER, ANSWER], "messages[1].role: the last message must be the user's"),
    ],
)
def test_faulty_messages_are_row_errors(chat: ChatTemplate, messages: object, says: str) -> None:
    with pytest.raises(RowError) as caught:
        chat.encode(messages)
    assert says in str(caught.value)


def test_a_turn_after_an_answer_is_written_as_in_the_whole_chat(
    chat: ChatTemplate, tokenizer: Tokenizer
) -> None:
    whole = chat.encode([USER, ANSWER, {"role": "user", "content": "And now?"}])
    before = [*chat.encode([USER]), *tokenizer.encode(ANSWER["content"], bos=False)]
    after = chat.encode_after([{"role": "user", "content": "And now?"}], in_turn=True)
    assert [*before, *after] == whole


def test_a_chat_after_a_text_has_no_beginning_of_text(chat: ChatTemplate) -> None:
    assert chat.encode_after([USER]) == chat.encode([USER])[1:]


def test_the_next_turns_own_message_is_named(chat: ChatTemplate) -> None:
    with pytest.raises(RowError, match=r"messages\[0\].role: 'model' where 'user' is due"):
        chat.encode_after([ANSWER], in_turn=True)


def test_a_tokenizer_without_turns_is_no_chat_model(variant: Callable[..., Tokenizer]) -> None:
    tokenizer = variant(rename={"<start_of_turn>": "<other>"})
    with pytest.raises(WeightsError, match="not made for chat"):
        ChatTemplate(tokenizer)
