"""The documentation says what is: links lead somewhere, examples run, options exist."""

import ast
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.main import get_command

from rgpipeline.cli.app import app, call
from rgpipeline.errors import InputError
from rgpipeline.jobfile import parse_job
from rgpipeline.spec import Job
from tests.published import done, job_over, publish
from tools import job_reference

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "cluster/README.md"])
COMMANDS: dict[str, Any] = get_command(app()).commands  # type: ignore[attr-defined]
_COMMAND = r"(?:^|/|-- )rgpipeline ([a-z]+\b[^\n|#]*)"


def blocks(language: str) -> Iterator[Any]:
    """Every block of code in a language, on every page."""
    for page in PAGES:
        found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)
        for number, block in enumerate(found):
            yield pytest.param(block, id=f"{page.relative_to(ROOT)}:{number}")


def commands() -> Iterator[Any]:
    """Every use of a command in a shell block or a code span."""
    for page in PAGES:
        text = page.read_text()
        shell = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S))
        spans = "\n".join(re.findall(r"`(rgpipeline [^`]+)`", text))
        for line in dict.fromkeys(re.findall(_COMMAND, shell + "\n" + spans, re.M)):
            yield pytest.param(line, id=f"{page.relative_to(ROOT)}: {line.strip()}")


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_job_files_page_is_the_specs() -> None:
    written = (ROOT / "docs/job-file.md").read_text()
    assert written == job_reference.page(), "python -m tools.job_reference > docs/job-file.md"


@pytest.mark.parametrize("row", job_reference.rows(), ids=lambda row: row.path)
def test_every_field_has_words_and_an_example_that_is_valid(row: job_reference.Row) -> None:
    assert row.about
    mapping: dict[str, Any] = {"model": {"weights": "w"}, "output": {"path": "o"}}
    mapping["input"] = {"path": "i"}
    if row.path == "input.columns.completion":
        mapping["task"] = "score"
    if row.path.startswith("embed."):
        mapping["task"] = "embed"
    if row.path in ("input.columns.tools", "output.messages"):
        mapping["input"]["columns"] = {"messages": "m"}
    if row.path == "workers.min":
        mapping["workers"] = {"count": 8}
    section = mapping
    *above, last = row.path.split(".")
    for name in above:
        section = section.setdefault(name, {})
    section[last] = yaml.safe_load(row.example)
    assert isinstance(parse_job(mapping, "example"), Job)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_job_in_the_documentation_is_valid_as_far_as_it_goes(block: str) -> None:
    given = yaml.safe_load(block)
    if not isinstance(given, dict) or not set(given) & set(Job.model_fields):
        pytest.skip("no part of a job file")
    whole = {"model": {"weights": "w"}, "input": {"path": "i"}, "output": {"path": "o"}}
    parse_job(
        {k: {**whole.get(k, {}), **v} if k in whole else v for k, v in given.items()}
        | {k: v for k, v in whole.items() if k not in given},
        "example",
    )


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_whole_job_in_the_documentation_validates(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = yaml.safe_load(block)
    if not isinstance(given, dict) or not {"model", "input", "output"} <= set(given):
        pytest.skip("no whole job")
    monkeypatch.chdir(tmp_path)
    rows = {"name": [f"n{n}" for n in range(300)], "prompt": ["In the"] * 300}
    pq.write_table(pa.table(rows), "prompts.parquet")
    # A reader's bucket is not here: in its place stands what ships with the package.
    text = re.sub(r"\"?gs://YOUR_BUCKET/out[^\s\"}]*\"?", "out", block)
    (tmp_path / "job.yaml").write_text(re.sub(r"\"?gs://YOUR_BUCKET[^\s\"}]*\"?", "demo", text))
    assert call(["validate", "job.yaml"]) == 0, capsys.readouterr().err
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("block", blocks("python"))
def test_every_piece_of_python_is_python(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rgpipeline"):
            module = __import__(str(node.module), fromlist=["x"])
            assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("line", commands())
def test_every_command_and_option_exists(line: str) -> None:
    name, *rest = line.split()
    assert name in COMMANDS
    options = {
        option for param in COMMANDS[name].params for option in param.opts + param.secondary_opts
    }
    used = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert used <= options | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


def test_every_example_job_is_in_the_quick_start() -> None:
    told = (ROOT / "docs/quickstart.md").read_text()
    assert [path.name for path in (ROOT / "jobs").glob("*.yaml") if path.name not in told] == []


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("job")
    job = job_over(folder, [{"prompt": f"p{i}"} for i in range(40)])
    return publish(job, lambda number, row: [done(f"n{number}", f"text {number}")])


def test_pandas_reads_an_output_as_documented(output: str) -> None:
    table = pd.read_parquet(output)
    good = table[table.error.isna()][["id", "completion"]]
    assert sorted(good.completion) == sorted(f"text {i}" for i in range(40))


def test_duckdb_reads_an_output_as_documented(output: str) -> None:
    found = duckdb.sql(
        f"SELECT finish_reason, count(*), avg(completion_tokens) "
        f"FROM '{output}/*.parquet' GROUP BY ALL"
    )
    assert found.fetchall() == [("stop", 40, 3.0)]


def test_duckdb_is_answered_with_our_columns_whatever_the_input_calls_its_own(
    tmp_path: Path,
) -> None:
    rows = [{"prompt": "p", "Completion": "theirs", "Finish_Reason": "theirs"}]
    with pytest.raises(InputError, match=r"Completion, Finish_Reason.*output\.prefix"):
        publish(job_over(tmp_path, rows), lambda number, row: [done("n", "ours")])
    job = job_over(tmp_path, rows, output={"keep": ["prompt"]})
    output = publish(job, lambda number, row: [done("n", "ours")])
    found = duckdb.sql(f"SELECT completion, finish_reason FROM '{output}/*.parquet'")
    assert found.fetchall() == [("ours", "stop")]


def test_the_glossary_names_classes_that_exist() -> None:
    names = re.findall(r"`([A-Z][a-z]+[A-Za-z]*)`", (ROOT / "docs/glossary.md").read_text())
    code = "\n".join(path.read_text() for path in (ROOT / "rgpipeline").rglob("*.py"))
    assert names
    assert [name for name in names if f"class {name}" not in code] == []


def test_the_glossary_explains_each_term_once() -> None:
    terms = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs/glossary.md").read_text(), re.M)
    terms = [term for term in terms if term not in ("term", "---")]
    assert sorted(terms) == sorted(set(terms))


def test_the_files_that_the_guide_for_changes_names_exist() -> None:
    table = (ROOT / "docs/contributing.md").read_text().partition("## Where do I change")[2]
    table = table.partition("\n## ")[0]
    paths = re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.py)?|[a-z_]+\.py)`", table)
    assert len(paths) > 20
    package = ROOT / "rgpipeline"
    missing = [p for p in paths if not (ROOT / p).exists() and not list(package.rglob(p))]
    assert missing == []


def test_every_row_of_the_tables_of_weights_names_tests_that_exist() -> None:
    lines = (ROOT / "docs/weights.md").read_text().splitlines()
    tested = [n for n, line in enumerate(lines) if line.startswith("|") and "| test |" in line]
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert len(tested) == 4  # folders, tokenizers, adapters, the Hub
    for header in tested:
        for row in itertools.takewhile(lambda line: line.startswith("|"), lines[header + 2 :]):
            last = row.split(" | ")[-1]
            named = set(re.findall(r"`(test_\w+)`", last))
            assert named <= defined, named - defined
            assert named or last.startswith("the same ("), row
