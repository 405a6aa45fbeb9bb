"""lm-evaluation-harness itself, over local tasks: its numbers are those of the Generator."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager

from rgpipeline.errors import UserError
from rgpipeline.integrations import lm_eval as lm_eval_module
from rgpipeline.integrations.lm_eval import GriffinLM
from tests.integrations import hugging_face

pytestmark = pytest.mark.usefixtures("compiled_fast")

QUESTIONS = [
    {"text": "And God said, Let there be", "choices": ["light", "a zebra", "the"], "answer": 0},
    {"text": "In the beginning God created the heaven and", "choices": ["the earth", "it"]},
    {"text": "", "choices": ["And", "Zzz"]},
]
TASKS = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer or 0}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text + ' ' + choices[0]}}",
        "metric_list": [{"metric": "word_perplexity"}],
    },
    "writing": {
        "output_type": "generate_until",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": [" the", "."], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    rows = [{"answer": 0, **question} for question in QUESTIONS]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, own in TASKS.items():
        task = {
            "task": f"local_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
            "test_split": "test",
            "doc_to_text": "{{text}}",
            **own,
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return folder


@pytest.fixture(scope="module")
def lm() -> Iterator[GriffinLM]:
    lm = GriffinLM("demo", dtype="float32", slots=4, max_length=6)
    yield lm
    lm.model.close()


@pytest.fixture(scope="module")
def samples(lm: GriffinLM, tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
        found = simple_evaluate(
            lm,
            tasks=[f"local_{name}" for name in TASKS],
            task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
            bootstrap_iters=0,
        )
    assert found is not None
    return {name: found["samples"][f"local_{name}"] for name in TASKS}


def total(lm: GriffinLM, tokens: list[int], scored: int) -> float:
    """The log-probability of the last tokens of a text, by a score of the whole text."""
    return float(np.sum(lm.model.score([tokens])[0][len(tokens) - 1 - scored :], dtype=np.float64))


def test_a_choice_has_the_log_probability_of_its_tokens_in_the_whole_text(
    lm: GriffinLM, samples: Any
) -> None:
    for sample in samples["choice"]:
        context, found = sample["doc"]["text"], sample["filtered_resps"]
        assert len(found) == len(sample["doc"]["choices"])
        for choice, (logprob, greedy) in zip(sample["doc"]["choices"], found, strict=True):
            whole = lm.model.encode(f"{context} {choice}")
            scored = len(whole) - len(lm.model.encode(context))
            assert logprob == pytest.approx(total(lm, whole, scored), abs=1e-3)
            written = lm.model.generate([whole[:-scored]], {"temperature": 0, "max_tokens": scored})
            assert greedy == (written[0].token_ids == whole[-scored:])


def test_a_rolling_text_is_scored_in_the_harnesss_windows(lm: GriffinLM, samples: Any) -> None:
    for sample in samples["rolling"]:
        tokens = lm.model.encode(sample["doc"]["text"] + " " + sample["doc"]["choices"][0])
        expected = total(lm, [2, *tokens[:6]], min(6, len(tokens)))
        for end in range(12, len(tokens) + 6, 6):
            last = min(end, len(tokens))
            expected += total(lm, tokens[last - 7 : last], last - (end - 6))
        (found,) = sample["filtered_resps"]
        assert found == pytest.approx(expected, abs=1e-3)


def test_generation_ends_before_the_first_of_the_texts(lm: GriffinLM, samples: Any) -> None:
    for sample in samples["writing"]:
        (text,) = sample["filtered_resps"]
        greedy = {"temperature": 0, "max_tokens": 12}
        (whole,) = lm.model.generate([sample["doc"]["text"]], greedy)
        assert whole.text is not None
        assert text == whole.text.split(" the")[0].split(".")[0]


def test_every_request_has_the_answer_of_the_harnesss_hugging_face_back_end(
    lm: GriffinLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm, "max_length", hugging_face.MAX_LENGTH)
    found = hugging_face.answers(lm)
    theirs = json.loads(Path(hugging_face.__file__).with_suffix(".json").read_text())
    for (logprob, greedy), right in zip(
        found["loglikelihood"], theirs["loglikelihood"], strict=True
    ):
        assert [logprob, greedy] == [pytest.approx(right[0], abs=1e-3), right[1]]
    np.testing.assert_allclose(
        found["loglikelihood_rolling"], theirs["loglikelihood_rolling"], atol=1e-3
    )
    assert found["generate_until"] == theirs["generate_until"]


def test_repeated_samples_of_a_document_differ_and_come_again(lm: GriffinLM) -> None:
    arguments = ("In the", {"do_sample": True, "temperature": 1.0, "max_gen_toks": 12})
    one = Instance("generate_until", {}, arguments, 0, metadata=("local", 5, 1))
    texts = lm.generate_until([one] * 3)
    assert len(set(texts)) == 3
    assert lm.generate_until([one] * 3) == texts


def test_a_chat_is_read_as_the_checkpoints_turns(lm: GriffinLM) -> None:
    text = lm.apply_chat_template([{"role": "user", "content": "Who?"}])
    turn = lm.model.tokenizer.piece_to_id("<start_of_turn>")
    tokens = lm.tok_encode(text)
    assert tokens[:2] == [lm.prefix_token_id, turn]
    assert (tokens.count(lm.prefix_token_id), tokens.count(turn)) == (1, 2)


def test_an_argument_that_is_not_known_is_named(lm: GriffinLM) -> None:
    one = Instance("generate_until", {}, ("In", {"num_beams": 4}), 0, metadata=("local", 5, 1))
    with pytest.raises(UserError, match="num_beams: 4 is not known"):
        lm.generate_until([one])
    with pytest.raises(UserError, match="give slots in --model_args"):
        GriffinLM("demo", batch_size=16)


def test_the_harnesss_command_knows_the_model_and_tells_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        get_model("rgpipeline").create_from_arg_string("pretrained=/no/such/folder,slots=2")

    monkeypatch.setattr(lm_eval_module, "cli_evaluate", command)
    with pytest.raises(SystemExit) as ended:
        lm_eval_module.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("/no/such/folder")
