"""A model as a step of a Ray Data pipeline, on actors: `Generator` is the judge."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

from rgpipeline import Generator
from rgpipeline.errors import InputError, JobError, UserError
from rgpipeline.integrations import ray_data
from rgpipeline.integrations.ray_data import ProcessorConfig, build_processor
from rgpipeline.runtime.cluster import Cluster, Node

PAGE = Path(__file__).parents[2] / "docs/ray-data.md"
COUNT = 40
PROMPTS = [f"And the {k}th day " + "came " * (k % 5) for k in range(COUNT)]
IDS = [f"row {k}" for k in range(COUNT)]
MODEL = {"weights": "demo"}


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with Generator.load("demo", slots="auto") as loaded:
        yield loaded


@pytest.fixture
def quiet(cluster: None) -> None:
    ray.data.DataContext.get_current().enable_progress_bars = False


@pytest.mark.usefixtures("quiet")
def test_a_rows_bytes_do_not_depend_on_blocks_batches_or_actors(generator: Generator) -> None:
    sampling = {"max_tokens": 12, "seed": 3}
    config = ProcessorConfig(
        model=MODEL,
        sampling=sampling,
        batch_size=4,
        concurrency=2,
    )
    table = pa.table({"id": IDS, "prompt": PROMPTS})
    blocks = [table.slice(start, 6) for start in range(0, COUNT, 6)]
    rows = build_processor(config)(ray.data.from_arrow(blocks)).take_all()
    found = {row["id"]: row for row in rows}
    assert len(rows) == COUNT
    assert [found[name]["prompt"] for name in IDS] == PROMPTS
    expected = generator.generate(PROMPTS, sampling, ids=IDS)
    assert [found[name]["completion"] for name in IDS] == [one.text for one in expected]


@pytest.mark.usefixtures("quiet")
def test_the_script_of_the_documentation_runs_and_a_row_that_fails_stops_nothing(
    tmp_path: Path, generator: Generator
) -> None:
    script = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)[0]
    # The cluster's workers have another working directory.
    script = script.replace('"answers"', repr(str(tmp_path / "answers")))
    exec(compile(script, str(PAGE), "exec"), {})
    rows = {row["url"]: row for row in pq.read_table(tmp_path / "answers").to_pylist()}
    who = {"page-0": "the king", "page-1": "the priest", "page-3": "the people"}
    prompts = [f"In the beginning {one}" for one in who.values()]
    sampling = {"max_tokens": 24, "temperature": 0.8}
    expected = generator.generate(prompts, sampling, ids=list(who))
    assert [rows[url]["answer"] for url in who] == [one.text.strip() for one in expected]
    assert {rows[url]["error"] for url in who} == {None}
    assert (rows["page-2"]["error"], rows["page-2"]["answer"]) == ("'prompt' is null", None)


@pytest.mark.usefixtures("quiet")
def test_a_missing_column_is_told_before_anything_runs() -> None:
    dataset = ray.data.from_items([{"promt": "x"}])
    with pytest.raises(InputError, match=r"no column 'prompt' .*did you mean 'promt'"):
        build_processor(ProcessorConfig(model=MODEL))(dataset)


class Recorded:
    """A dataset that only keeps how `map_batches` was called."""

    def __init__(self) -> None:
        self.call: dict[str, Any] = {}

    def schema(self, fetch_if_missing: bool) -> None:
        return None

    def map_batches(self, actor: type, **options: Any) -> "Recorded":
        self.call = options
        return self


TPU_HOSTS = [Node(f"t{k}", f"t{k}", {"CPU": 100, "TPU": 4}) for k in range(3)]
CPU_HOSTS = [Node("c", "c", {"CPU": 16})]
GPU_HOSTS = [Node("g", "g", {"CPU": 64, "GPU": 8})]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("nodes", "options", "size", "taken"),
    [
        (TPU_HOSTS, {}, (3, 3), {"num_cpus": 0, "resources": {"TPU": 4}}),
        (GPU_HOSTS, {}, (8, 8), {"num_cpus": 0, "num_gpus": 1}),
        (GPU_HOSTS, {"workers": {"mesh": {"model": 2}}}, (4, 4), {"num_cpus": 0, "num_gpus": 2}),
        (CPU_HOSTS, {}, (2, 2), {"num_cpus": 7}),
        (CPU_HOSTS, {"concurrency": 4}, (4, 4), {"num_cpus": 3}),
        (TPU_HOSTS, {"workers": {"count": 2}}, (2, 2), {"resources": {"TPU": 4}}),
        (GPU_HOSTS, {"concurrency": (1, 6)}, (1, 6), {"num_gpus": 1}),
    ],
)
def test_actors_are_placed_as_a_jobs_workers_and_leave_a_core_to_ray_data(
    monkeypatch: pytest.MonkeyPatch,
    nodes: Sequence[Node],
    options: dict[str, Any],
    size: tuple[int, int],
    taken: dict[str, Any],
) -> None:
    monkeypatch.setattr(ray_data, "read_cluster", lambda: Cluster(tuple(nodes)))
    dataset: Any = Recorded()
    build_processor(ProcessorConfig(model=MODEL, **options))(dataset)
    pool = dataset.call["compute"]
    assert (pool.min_size, pool.max_size) == size
    assert {name: dataset.call[name] for name in taken} == taken


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"sampling": {"temprature": 1}},
            r"ProcessorConfig: sampling.temprature: unknown key; did you mean 'temperature'",
        ),
        ({"modle": MODEL}, r"ProcessorConfig: modle: unknown key; did you mean 'model'"),
        ({"model": MODEL, "input": {"path": "x"}}, r"input\.path is for job files"),
        ({"model": MODEL, "output": {"path": "x"}}, r"output\.path is for job files"),
        ({"model": MODEL, "faults": {}}, r"faults is for job files"),
        ({"model": MODEL, "batch_size": 0}, r"batch_size: a whole number from 1 is needed"),
        ({"model": MODEL, "concurrency": (3, 2)}, r"concurrency: \(least, most\) is needed"),
        (
            {"model": MODEL, "concurrency": 2, "workers": {"count": 3}},
            r"concurrency and workers\.count say the same",
        ),
    ],
)
def test_a_mistake_in_the_config_is_told_as_in_a_job_file(
    sections: dict[str, Any], message: str
) -> None:
    with pytest.raises((JobError, UserError, InputError), match=message):
        ProcessorConfig(**sections)
