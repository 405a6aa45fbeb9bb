"""The worker over a real, tiny model: the official continuations, and the same bytes resumed."""

import json
from pathlib import Path

import numpy as np
import pytest

from rgpipeline.engine.factory import open_engine
from rgpipeline.spec import EngineSpec
from rgpipeline.worker.shared import WorkerPolicy
from tests.sources import source
from tests.worker.planned_jobs import finish, plan_job

GOLDEN = Path(__file__).parent.parent / "golden"
ENGINE = {"slots": 4, "prefill_chunk": 16, "steps_per_dispatch": 4}
MODEL = {"weights": str(GOLDEN / "a" / "hf"), "tokenizer": str(GOLDEN / "tokenizer")}
HASTY = WorkerPolicy(part_s=0.0)


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "a" / "expected.npz"))


@pytest.fixture(scope="module")
def opened(request):
    return open_engine(
        source(dtype="float32", quantize=request.param, **MODEL), EngineSpec(**ENGINE)
    )


def reopening(opened, act=lambda: None, at: int = -1):
    """A factory that hands out the same engine, emptied; `act` comes after its `at`th step."""

    def factory(source, engine, resolved=None):
        loop, steps = opened.loop, 0
        loop.drain()
        plain = type(loop).step

        def step():
            nonlocal steps
            emissions = plain(loop)
            steps += 1
            if steps == at:
                act()
            return emissions

        loop.step = step
        return opened

    return factory


def job(folder, expected, quantize="none", **sampling):
    rows = [{"ids": expected[f"prompt_{i}"].tolist()} for i in range(6)]
    return plan_job(
        folder,
        rows,
        model={**MODEL, "dtype": "float32", "quantize": quantize},
        engine=ENGINE,
        sampling={"ignore_eos": True, **sampling},
        output={"segment_tokens": 24},
    )


@pytest.mark.parametrize("opened", ["none"], indirect=True)
def test_greedy_rows_are_the_official_continuations(tmp_path, expected, opened):
    given = job(tmp_path, expected, max_tokens=56, temperature=0, logprobs=5)
    finish(given.worker(open_engine=reopening(opened)), given.assignments)
    for i in range(6):
        rows = [row for row in given.rows() if row["n"] == i]
        tokens = [token for row in rows for token in row["completion_ids"]]
        top = [line for row in rows for line in json.loads(row["logprobs"])["top"]]
        assert tokens == expected[f"greedy_{i}"].tolist()
        np.testing.assert_allclose(top, expected[f"top5_logp_{i}"], atol=2e-4)


def finish_in_lives(rough, opened, lives):
    """Does a job in workers that drain after so many steps each, and a last one."""
    for life, steps in enumerate(lives):
        worker = rough.worker(
            f"life{life}",
            open_engine=reopening(opened, lambda: worker.drain(), steps),  # noqa: B023
            policy=HASTY,
        )
        finish(worker, rough.assignments)
        assert rough.snapshots()
    finish(rough.worker("last", open_engine=reopening(opened)), rough.assignments)


@pytest.mark.parametrize("opened", ["none", "int8"], indirect=True)
def test_interrupted_rows_have_the_bytes_of_undisturbed_ones(tmp_path, expected, opened):
    sampling = {"max_tokens": 150, "logprobs": 2, "repetition_penalty": 1.2, "seed": 4}
    held = opened.settings.quantize
    calm = job(tmp_path / "calm", expected, held, **sampling)
    finish(calm.worker(open_engine=reopening(opened)), calm.assignments)
    rough = job(tmp_path / "rough", expected, held, **sampling)
    finish_in_lives(rough, opened, [9, 20, 31])
    assert rough.table().equals(calm.table())
    assert rough.snapshots() == []


GRAMMARS = [
    {"json": {"type": "array", "items": {"enum": [1, "a", None]}, "minItems": 30}},
    {"regex": "[a-z]{60,90}"},
    {"choice": ["good", "bad"]},
    {"grammar": 'start: /[0-9]/ start | "."'},
    {"regex": "(a"},
    None,
]


@pytest.mark.parametrize("opened", ["none", "int8"], indirect=True)
def test_rows_with_grammars_have_their_bytes_however_often_they_are_interrupted(
    tmp_path, expected, opened
):
    """Each row has its own; one can't be compiled, and one has none."""
    rows = [
        {"ids": expected[f"prompt_{i}"].tolist(), "own": json.dumps({"structured_outputs": one})}
        for i, one in enumerate(GRAMMARS)
    ]
    sampling = {"max_tokens": 90, "logprobs": 2, "repetition_penalty": 1.2, "seed": 4}
    columns = {"prompt_ids": "ids", "sampling": "own"}
    model = {**MODEL, "dtype": "float32", "quantize": opened.settings.quantize}
    fixed = {"model": model, "engine": ENGINE, "columns": columns}
    sections = {**fixed, "sampling": sampling, "output": {"segment_tokens": 24}}
    calm = plan_job(tmp_path / "calm", rows, **sections)
    finish(calm.worker(open_engine=reopening(opened)), calm.assignments)
    rough = plan_job(tmp_path / "rough", rows, **sections)
    finish_in_lives(rough, opened, [40, 60])
    assert rough.table().equals(calm.table())
    texts: dict[int, list[str]] = {}
    for row in calm.rows():
        if row["finish_reason"] == "stop" and row["segment"] == 0:
            texts.setdefault(row["n"], []).append(row["completion"])
    assert {*texts[2]} <= {"good", "bad"}
    assert all(text.strip("0123456789") == "." for text in texts[3])
    [refused] = [row for row in calm.rows() if row["n"] == 4]
    assert "own.structured_outputs.regex: " in refused["error"]
    assert "unclosed group" in refused["error"]
