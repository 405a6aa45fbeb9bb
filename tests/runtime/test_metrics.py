"""What Prometheus sees of a job, and the dashboard over it."""

import json
import re
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
import ray

from rgpipeline import run
from rgpipeline.dispatch.job_view import JobView
from rgpipeline.runtime.metrics import JOB_GAUGES, WORKER_COUNTERS, WORKER_GAUGES
from tests.runtime.engines import Slow
from tests.runtime.jobs import job_over, prompts

DASHBOARD = Path(__file__).parents[2] / "cluster/grafana/rgpipeline.json"
EXPORTED = {
    *(f"ray_{name}_total" for name in WORKER_COUNTERS),
    *(f"ray_{name}" for name in {**WORKER_GAUGES, **JOB_GAUGES}),
}


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    named = set(re.findall(r"ray_rgpipeline_\w+", DASHBOARD.read_text()))
    assert named == EXPORTED


def test_the_dashboards_panels_have_their_own_ids_and_places() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(covered)) == len(covered)


@pytest.mark.usefixtures("cluster")
def test_a_nodes_metrics_port_serves_them(tmp_path: Path) -> None:
    # Counters appear with their first count: here are no failures, and no prefill that takes time.
    silent = {"rows_failed", "store_errors", "prefill_seconds"}
    awaited = EXPORTED - {f"ray_rgpipeline_{name}_total" for name in silent}
    engine, served = Slow(tmp_path, crawling=True), set[str]()

    def scrape(_: JobView) -> None:
        port = ray.nodes()[0]["MetricsExportPort"]
        with (
            suppress(OSError),  # the node's agent may be starting yet
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page,
        ):
            served.update(re.findall(r"^ray_rgpipeline_\w+", page.read().decode(), re.MULTILINE))
        if served >= awaited:
            engine.hurry()

    run(job_over(tmp_path, prompts(200)), open_engine=engine, watch=scrape)
    assert served >= awaited
