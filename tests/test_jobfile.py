"""The job file: what is taken, and what a person is told of each mistake."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from rgpipeline.errors import JobError
from rgpipeline.jobfile import load_job, parse_job, spec_faults
from rgpipeline.spec import Sampling

LEAST = "model: {weights: demo}\ninput: {path: prompts.jsonl}\noutput: {path: out}\n"


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str | bytes, name: str = "job.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def faults_of(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(JobError) as caught:
        load_job(path, overrides)
    return str(caught.value).replace(f"{path.parent}/", "").splitlines()


def test_three_keys_make_a_job(write):
    job = load_job(write(LEAST))
    assert (job.model.weights, job.input.path, job.output.path) == (
        "demo",
        ("prompts.jsonl",),
        "out",
    )
    assert job.sampling == Sampling()


def test_a_section_with_nothing_in_it_is_its_defaults(write):
    assert load_job(write(LEAST + "sampling:\nworkers:\n  mesh:\n")) == load_job(write(LEAST))


def test_one_of_a_list_needs_no_list(write):
    job = load_job(write(LEAST), ["output.keep=book", "sampling.stop=END", "sampling.stop_ids=7"])
    assert (job.output.keep, job.sampling.stop, job.sampling.stop_ids) == (
        ("book",),
        ("END",),
        (7,),
    )


def test_dates_and_exponents_are_what_a_person_means(write):
    job = load_job(write(LEAST + "name: 2026-11-24\nsampling: {temperature: 1e-3}"))
    assert (job.name, job.sampling.temperature) == ("2026-11-24", 0.001)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            "sampling: {temprature: 1}",
            "sampling.temprature: unknown key; did you mean 'temperature'?",
        ),
        ("sampling: {temp: 1}", "sampling.temp: unknown key; did you mean 'temperature'?"),
        ("temperature: 1", "temperature: unknown key; did you mean 'sampling.temperature'?"),
        ("workers: {mesh: {dta: 2}}", "workers.mesh.dta: unknown key; did you mean 'data'?"),
        ("workers: {mesh: {x: 2}}", "workers.mesh.x: unknown key; there are data, model"),
        ("sampling: {top_p: 2}", "sampling.top_p: should be less than or equal to 1; found 2"),
        (
            "sampling: {stop_ids: [1, x]}",
            "sampling.stop_ids[1]: should be a valid integer; found 'x'",
        ),
        ("sampling: {stop: ['']}", "sampling.stop: a stop string is empty; remove it"),
        (
            "engine: {slots: many}",
            "engine.slots: should be 'auto' or a valid integer; found 'many'",
        ),
        ("workers: 3", "workers: should be a section of key: value lines; found 3"),
        ("sampling: {n: yes}", "sampling.n: should be a number; found True"),
        ("engine: {slots: on}", "engine.slots: should be a number; found True"),
        ("sampling: {n:2}", "sampling.n:2: unknown key; put a space after the colon"),
        ("task: scor", "task: should be 'generate', 'score' or 'embed'; found 'scor'"),
    ],
)
def test_a_fault_is_told_with_its_key(write, more, told):
    assert faults_of(write(LEAST + more)) == [f"job.yaml: {told}"]


def test_all_faults_are_told_at_once(write):
    told = faults_of(write("model: {}\ninput: {path: a, template: x, colums: {}}\noutput: {}"))
    assert [line.split(": ")[1] for line in told] == [
        "model.weights",
        "input.colums",
        "output.path",
    ]


@pytest.mark.parametrize(
    ("input", "told"),
    [
        (
            "columns: {prompt_ids: ids}, special_tokens: text",
            "special_tokens and bos are for texts",
        ),
        ("columns: {prompt_ids: ids}, bos: false", "special_tokens and bos are for texts"),
        ("columns: {tools: t}", "columns.tools is for chats; it needs columns.messages"),
        ("special_tokens: none", "should be 'auto', 'parse' or 'text'; found 'none'"),
    ],
)
def test_what_has_no_effect_on_the_input_is_refused(write, input, told):
    (found,) = faults_of(write(LEAST.replace("prompts.jsonl", f"a, {input}")))
    assert told in found


def test_a_template_that_names_no_column_is_a_fault_of_the_file(write):
    text = LEAST.replace("prompts.jsonl", "a, template: Hello")
    assert "input.template: names no column" in faults_of(write(text))[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "model:\n  weights: a\n  weights: b\n",
            ", line 3, column 3: 'weights' is given twice, first in line 2",
        ),
        ("name: a\nmodel:\n\tweights: a\n", ", line 3, column 1: "),
        ("name: a: b\n", ", line 1, column 8: mapping values are not allowed"),
        ("name: [a\n", ", line 2, column 1: "),
        ("", ": holds nothing; a job is a mapping"),
        ("- a\n", ": holds a list; a job is a mapping"),
        (b"name: \xff\n", ", line 1: not UTF-8"),
        ("a: " + "[" * 3000, ": nested too deeply"),
    ],
)
def test_text_that_is_no_job_is_told_with_its_line(write, text, told):
    assert faults_of(write(text))[0].startswith(f"job.yaml{told}")


def test_a_misspelt_name_of_a_file_is_mended(write):
    path = write(LEAST)
    assert faults_of(path.with_name("jop.yaml")) == [
        "jop.yaml: no such file; did you mean job.yaml?"
    ]


def test_a_folder_is_no_job_but_shows_what_it_has(write):
    path = write(LEAST)
    with pytest.raises(JobError, match=r"is a folder; name a job file; there are job\.yaml"):
        load_job(path.parent)


def test_overrides_are_yaml_and_make_their_sections(write):
    job = load_job(
        write(LEAST + "sampling:\n"),
        [
            "sampling.temperature=0.5",
            "sampling.stop=[a, b]",
            "sampling.stop.1=c",
            "sampling.max_tokens=",
            "storage_options.s3.endpoint_url=http://127.0.0.1:9000/?a=b",
        ],
    )
    assert (job.sampling.temperature, job.sampling.stop) == (0.5, ("a", "c"))
    assert job.sampling.max_tokens is None
    assert job.storage_options == {"s3": {"endpoint_url": "http://127.0.0.1:9000/?a=b"}}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("sampling.sed=7", "--set sampling.sed: unknown key; did you mean 'seed'?"),
        ("sampling.seed", "--set sampling.seed: not understood; write key=value"),
        ("a..b=1", "--set a..b=1: not understood; write key=value"),
        ("model.weights.x=1", "--set model.weights.x: model.weights is not a section"),
        ("name=x y", "--set name: should be of letters, digits, '.', '_' and '-'"),
    ],
)
def test_a_fault_of_an_override_is_told_as_one(write, override, told):
    (fault,) = faults_of(write(LEAST), override)
    assert fault.startswith(told)


def test_an_entry_that_a_list_lacks_is_told(write):
    path = write(LEAST.replace("prompts.jsonl", "[a, b]"))
    assert faults_of(path, "input.path.2=c") == [
        "--set input.path.2: no such entry in the list (there are 0, 1); set it whole: [a, b]"
    ]


def test_values_of_storage_options_are_not_shown():
    mapping = {
        "model": {"weights": "demo"},
        "input": {"path": "a"},
        "output": {"path": "out"},
        "storage_options": {"s3": "SECRET"},
    }
    with pytest.raises(JobError) as caught:
        parse_job(mapping, "job")
    assert "SECRET" not in str(caught.value)


def test_faults_of_a_section_stand_where_it_is_said_to_be():
    with pytest.raises(ValidationError) as caught:
        Sampling.model_validate({"top_k": -1, "n": 0})
    assert spec_faults(caught.value, Sampling, "row 3") == [
        "row 3.top_k: should be greater than or equal to 0; found -1",
        "row 3.n: should be greater than or equal to 1; found 0",
    ]
