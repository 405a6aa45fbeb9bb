"""Chats of several turns: each is answered after those before it, and the chat published whole."""

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from rgpipeline.errors import JobError
from rgpipeline.io.state_files import load_state
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.jinja import JinjaTemplate
from rgpipeline.text.tokenizer import Tokenizer
from tests.worker.planned_jobs import finish, plan_job
from tests.worker.ten_tokens import expected, write_tokenizer
from tests.worker.test_resume import live, lives

# Of the fake engine's ten pieces: a question is a…, an answer ends with c.
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}a{{ m.content }}b{% else %}{{ m.content }}c"
    "{% endif %}{% endfor %}"
)
OPEN = {"role": "assistant", "content": None}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def plan(folder: Path, chats: list[list[dict]], **sections):
    folder.mkdir(exist_ok=True)
    model = {"weights": "fake", "tokenizer": write_tokenizer(folder), "chat_template": TEMPLATE}
    output = {"messages": True, **sections.pop("output", {})}
    rows = [{"messages": chat} for chat in chats]
    columns = {"messages": "messages"}
    return plan_job(folder, rows, model=model, columns=columns, output=output, **sections)


def done(given, **options) -> list[dict]:
    report = finish(given.worker(**options), given.assignments)
    assert report.error is None
    return given.rows()


def template(folder: Path) -> tuple[ChatTemplate, Tokenizer]:
    tokenizer = Tokenizer.load(write_tokenizer(folder))
    return ChatTemplate(tokenizer, JinjaTemplate(TEMPLATE, "", {}, datetime.now())), tokenizer


def answers(folder: Path, questions: list[str], limit: int) -> list[list[int]]:
    """Turn by turn, each of the whole text before it."""
    chat, _ = template(folder)
    tokens, found = list(chat.encode([user(questions[0])])), []
    for following in [*questions[1:], None]:
        found.append(expected(tokens, limit))
        if following is not None:
            tokens += [*found[-1], *chat.encode_after([user(following)], in_turn=True)]
    return found


@pytest.mark.parametrize("last", [[], [OPEN]], ids=["a question at the end", "an open answer"])
def test_each_open_turn_is_answered_after_those_before(tmp_path, last):
    questions = ["a", "bb", "ab"]
    chat = [user("a"), OPEN, user("bb"), OPEN, user("ab"), *last]
    (row,) = done(plan(tmp_path, [chat], sampling={"max_tokens": 5}))
    wanted = answers(tmp_path, questions, 5)
    texts = [template(tmp_path)[1].decode(ids) for ids in wanted]
    assert [m["content"] for m in row["messages"]] == [
        *(part for pair in zip(questions, texts, strict=True) for part in pair)
    ]
    assert [m["role"] for m in row["messages"]] == ["user", "assistant"] * 3
    assert (row["completion"], row["completion_ids"]) == (texts[-1], wanted[-1])
    assert row["completion_tokens"] == sum(map(len, wanted))


def test_answers_that_are_given_stay(tmp_path):
    chat = [user("a"), {"role": "assistant", "content": "b"}, user("ab")]
    (row,) = done(plan(tmp_path, [chat]))
    assert row["messages"][:3] == chat
    assert row["messages"][3] == {"role": "assistant", "content": row["completion"]}


def test_the_last_turns_state_is_the_chats(tmp_path):
    chat = [user("a"), OPEN, user("bb")]
    given = plan(tmp_path, [chat], sampling={"max_tokens": 5}, output={"states": "last"})
    (row,) = done(given)
    read = load_state(row["state"])
    assert read.in_turn
    assert read.position == row["prompt_tokens"] + row["completion_tokens"]
    assert len(list((given.out / "_states").iterdir())) == 1


def test_without_the_column_an_open_turn_is_an_error(tmp_path):
    (row,) = done(plan(tmp_path, [[user("a"), OPEN, user("b")]], output={"messages": False}))
    assert "messages[1].content: text is expected, found null" in row["error"]


def test_a_fault_in_a_later_turn_is_named_by_its_message(tmp_path):
    (row,) = done(plan(tmp_path, [[user("a"), OPEN, {"role": "user", "content": 5}]]))
    assert "messages[2].content: text is expected, found int" in row["error"]
    assert row["messages"] is None


def test_messages_need_a_column_of_them(tmp_path):
    with pytest.raises(JobError, match=r"output\.messages is for chats; it needs"):
        plan_job(tmp_path, [{"ids": [1]}], output={"messages": True})


@for_all(
    chats=st.lists(
        st.lists(st.sampled_from(["a", "bb", "ab"]), min_size=1, max_size=4), min_size=1, max_size=3
    ),
    lived=lives,
    limit=st.integers(0, 40),
)
@settings(deadline=None, max_examples=6)
def test_any_interruptions_leave_the_same_chats(tmp_path_factory, chats, lived, limit):
    folder = tmp_path_factory.mktemp("job")
    sampling = {"max_tokens": limit, "ignore_eos": True, "stop": ("cb",), "n": 2}
    rows = [[m for q in chat for m in (user(q), OPEN)] for chat in chats]
    calm = plan(folder / "calm", rows, sampling=sampling, shard_rows=2)
    done(calm, slots=3)
    given = plan(folder / "rough", rows, sampling=sampling, shard_rows=2)
    for index, (end, block, slots, steps) in enumerate(lived):
        live(given, f"life{index}", end, block, slots, steps, None)
    done(given, slots=2)
    assert given.table().equals(calm.table())
