"""A folder as transformers 5's `save_pretrained` leaves it runs as it stands."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from rgpipeline import Generator
from rgpipeline.cli.app import call
from rgpipeline.errors import RowError
from rgpipeline.storage.small_files import DEMO_FOLDER
from tests.model.golden import FOLDER
from tests.text.json_tokenizers import converted

SAVED = FOLDER / "saved" / "demo"
SMALL = {"slots": 2, "prefill_chunk": 16}
GREEDY = {"temperature": 0, "max_tokens": 24}
PROMPTS = ["In the beginning", "And it came to pass, that the 日本"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as transformers saves it (tests/golden/saved); no tokenizer.model.

    GemmaTokenizer adds a mask token that the model has no row for.
    """
    folder = tmp_path_factory.mktemp("saved") / "demo"
    shutil.copytree(SAVED, folder)
    demo = Path(DEMO_FOLDER)
    shutil.copy(demo / "model.safetensors", folder)
    tokenizer = converted((demo / "tokenizer.model").read_bytes())
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def generator(saved: Path) -> Generator:
    return Generator.load(str(saved), **SMALL)


def test_it_writes_what_the_same_model_with_a_tokenizer_model_writes(generator: Generator) -> None:
    demo = Generator.load("demo", **SMALL)
    assert generator.generate(PROMPTS, GREEDY) == demo.generate(PROMPTS, GREEDY)
    assert generator.encode(PROMPTS[1]) == demo.encode(PROMPTS[1])
    chat = [{"role": "user", "content": "Who made heaven?\nAnd when?"}]
    assert generator.chat(chat, GREEDY) == demo.chat(chat, GREEDY)


def test_what_is_streamed_is_the_whole(generator: Generator) -> None:
    whole = generator.generate(PROMPTS[1:], GREEDY)[0]
    assert "".join(generator.stream(PROMPTS[1], GREEDY)) == whole.text
    assert generator.decode(whole.token_ids) == whole.text


def test_a_stop_string_ends_it(generator: Generator) -> None:
    text = generator.generate(PROMPTS[:1], GREEDY)[0].text
    stopped = generator.generate(PROMPTS[:1], {**GREEDY, "stop": [text[5:9]]})[0]
    assert stopped.text == text[: text.index(text[5:9])]
    assert stopped.finish_reason == "stop"


def test_a_text_that_spells_a_token_without_a_row_is_an_error_of_that_row(
    generator: Generator,
) -> None:
    with pytest.raises(RowError, match=r"prompt 0: .*2048"):
        generator.generate(["a<mask>"], GREEDY)


def test_the_commands_take_it(
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"prompt": PROMPTS}), "in.parquet")
    job = {
        "model": {"weights": str(saved)},
        "input": {"path": "in.parquet"},
        "output": {"path": "out"},
        "sampling": {"max_tokens": 4},
    }
    Path("job.yaml").write_text(yaml.safe_dump(job))
    assert call(["validate", "job.yaml"]) == 0
    greedy = ["--temperature", "0", "--max-tokens", "12"]
    assert call(["generate", "--model", str(saved), PROMPTS[0], *greedy]) == 0
    found = capsys.readouterr().out
    assert call(["generate", "--model", "demo", PROMPTS[0], *greedy]) == 0
    assert capsys.readouterr().out in found


def test_validate_says_which_of_two_tokenizers_is_used(
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(saved, "both")
    shutil.copy(Path(DEMO_FOLDER) / "tokenizer.model", "both")
    pq.write_table(pa.table({"prompt": PROMPTS}), "in.parquet")
    job = {
        "model": {"weights": "both"},
        "input": {"path": "in.parquet"},
        "output": {"path": "out"},
    }
    Path("job.yaml").write_text(yaml.safe_dump(job))
    assert call(["validate", "job.yaml"]) == 0
    told = capsys.readouterr()
    words = " ".join((told.out + told.err).split())
    assert "tokenizer.json (2,049) differ; tokenizer.json is used" in words
    assert "the model has 2,048 tokens, its tokenizer 2,049" in words
