"""Answers in OpenAI's own format, field by field.

The shapes are those of openai 3.57's types (`ChatCompletion`, `Completion`).
"""

import json
from typing import Any

from rgpipeline.output.openai_responses import batch_responses
from rgpipeline.output.whole_texts import WholeText

CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"
LOGPROBS = {
    "tokens": ["In", " ", "bytes:\\xc3", "bytes:\\xa9", "<eos>"],
    "sampled": [-0.5, -1.0, -2.0, -0.25, -0.125],
    "top_ids": [[7, 8]] * 5,
    "top_tokens": [["In", "On"], ["a", " "], ["bytes:\\xc3", "b"], ["x", "y"], ["z", "<eos>"]],
    "top": [[-0.5, -3.0], [-0.75, -1.0], [-2.0, -2.5], [-0.2, -0.3], [-0.1, float("-inf")]],
}


def answer(url: str = CHAT, **fields: Any) -> dict[str, Any]:
    asked = {"url": url, "custom_id": "r-1", "model": "m", "top_logprobs": None}
    kept = asked | fields.pop("kept", {})
    text = WholeText("r-1", 0, 1, (0, 0), "In é", "stop", 3, 5, None, kept, model="demo", **fields)
    (response,) = batch_responses([text])
    assert json.dumps(response, allow_nan=False)
    return response


def choice(url: str, asked: int | None, logprobs: Any = LOGPROBS) -> dict[str, Any]:
    response = answer(url, kept={"top_logprobs": asked}, logprobs=logprobs)
    one: dict[str, Any] = response["response"]["body"]["choices"][0]
    return one


def test_a_chat_is_answered_with_a_message() -> None:
    body = answer()["response"]["body"]
    assert (body["object"], body["model"]) == ("chat.completion", "m")
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "In é", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def test_a_request_without_a_model_is_answered_with_the_jobs() -> None:
    assert answer(kept={"model": None})["response"]["body"]["model"] == "demo"


def test_the_answer_has_the_custom_id_as_it_was_sent() -> None:
    assert answer(kept={"custom_id": ""})["custom_id"] == ""


def test_without_one_it_has_the_rows_id() -> None:
    assert answer(kept={"custom_id": None})["custom_id"] == "r-1"


def test_a_chats_log_probabilities() -> None:
    told = choice(CHAT, 1)["logprobs"]
    assert told["refusal"] is None
    assert told["content"][0] == {
        "token": "In",
        "logprob": -0.5,
        "bytes": [73, 110],
        "top_logprobs": [{"token": "In", "logprob": -0.5, "bytes": [73, 110]}],
    }
    assert told["content"][2]["bytes"] == [0xC3]
    assert len(told["content"]) == 5


def test_a_chat_may_ask_for_the_sampled_tokens_alone() -> None:
    told = choice(CHAT, 0, {**LOGPROBS, "top_ids": [], "top_tokens": [], "top": []})["logprobs"]
    assert [entry["top_logprobs"] for entry in told["content"]] == [[]] * 5


def test_a_completions_log_probabilities() -> None:
    told = choice(PLAIN, 1)["logprobs"]
    assert told["tokens"] == LOGPROBS["tokens"]
    assert told["token_logprobs"] == LOGPROBS["sampled"]
    assert told["text_offset"] == [0, 2, 3, 3, 4]  # the character of two tokens is one
    assert told["top_logprobs"][1] == {"a": -0.75, " ": -1.0}  # the sampled token is among them


def test_a_completion_may_ask_for_the_sampled_tokens_alone() -> None:
    assert choice(PLAIN, 0)["logprobs"]["top_logprobs"] is None


def test_an_infinite_number_is_openais_least() -> None:
    assert choice(CHAT, 2)["logprobs"]["content"][4]["top_logprobs"][1]["logprob"] == -9999.0


def test_log_probabilities_that_only_the_job_asked_for_are_left_out() -> None:
    assert choice(CHAT, None)["logprobs"] is None
