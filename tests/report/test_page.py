"""The page: whole, alone, and right about what was published."""

import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from rgpipeline.dispatch.driver_messages import Event, WorkerDied, WorkerReported
from rgpipeline.dispatch.job_view import RowTokens
from rgpipeline.output import Heartbeat, JobFolder
from rgpipeline.records import OutputRow, PublishedTotals, WorkerReport
from rgpipeline.report import render_report
from rgpipeline.report.charts import between, doublings, exact, linear
from rgpipeline.report.row_figures import histogram, row_facts
from rgpipeline.runtime.event_log import EventLog
from rgpipeline.runtime.placement import Placement
from rgpipeline.runtime.status_reporter import JobFacts, StatusReporter
from rgpipeline.storage.retries import Retry
from rgpipeline.storage.store import RetryingStore, open_store
from rgpipeline.wording import amount
from tests.dispatch.driver_harness import DriverHarness, shards
from tests.published import done, failed, job_over, publish

ROWS = [{"name": f"n{i}", "prompt": f"prompt {i}"} for i in range(40)]
VOID = {"meta", "line", "path", "rect", "link", "br"}
NASTY = "<script>alert('x')</script> & \"quotes\""


class Balanced(HTMLParser):
    """Finds tags that are not closed, and every address that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID or tag in ("path", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def answer(number: int, row: Mapping[str, Any]) -> Sequence[OutputRow]:
    if number % 10 == 3:
        return [failed(row["name"], f"row {number}: {NASTY}")]
    reason = "length" if number % 10 == 4 else "stop"
    return [done(row["name"], f"text {number} {NASTY}", tokens=number + 1, finish_reason=reason)]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The output of a job over `ROWS`, without an event log."""
    job = job_over(tmp_path, ROWS, input={"columns": {"prompt": "prompt", "id": "name"}})
    return publish(job, answer)


class Run:
    """A run of two workers with 8 chips each, noted by the driver's own reporter."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("rgpipeline.runtime.status_reporter._now", lambda: self.now)
        self.driver = DriverHarness(shards(9), workers=2)
        self.log = EventLog(RetryingStore(open_store(url), Retry()), lambda: None)
        pool: Any = SimpleNamespace(host_of=lambda worker: "host")
        metrics: Any = SimpleNamespace(update=lambda figures: None)
        job = JobFacts(PublishedTotals(), RowTokens())
        self.reporter = StatusReporter(self.driver.dispatch, pool, self.log, metrics, job)
        self.reporter.run_began(Placement("tpu", 8), "local")
        for command in self.driver.commands:
            self.reporter.follow_command(command)

    def tell(self, now: float, event: Event) -> None:
        self.now = now
        self.reporter.follow(event)
        for command in self.driver.send(event):
            self.reporter.follow_command(command)

    def reports(self, now: float, worker: str, tokens: int) -> None:
        details = {"position_3_tokens": float(tokens), "position_3_s": now}
        report = WorkerReport(
            tokens, slots=4, occupied=3, completion_tokens=tokens, details=details
        )
        self.tell(now, WorkerReported(now, worker, report))
        self.reporter.report(now, wanted=2, waiting_for="", last=True)


@pytest.fixture
def page(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    run = Run(url, monkeypatch)
    run.reports(60.0, "w1", 0)
    run.tell(1800.0, WorkerDied(1800.0, "w0", "crashed", NASTY))
    run.reports(3600.0, "w1", 9000)
    run.log.close(Heartbeat("interrupted", 3600.0))
    return render_report(url)


def test_the_page_is_well_formed_and_fetches_nothing(page: str) -> None:
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert parser.fetched == []
    assert not re.search(r"url\(|@import|<script", page)


def test_texts_are_never_markup(page: str) -> None:
    assert "<script>" not in page
    assert "text 0 &lt;script&gt;" in page


@pytest.mark.parametrize(
    "heading",
    [
        "Throughput",
        "Speed against position",
        "Slots in use",
        "Lengths",
        "How completions ended",
        "Workers",
        "Failed rows",
        "Samples",
        "The job",
    ],
)
def test_the_page_has_every_section(page: str, heading: str) -> None:
    assert f"<h2>{heading}</h2>" in page


def test_the_page_names_versions_losses_and_failed_rows(page: str) -> None:
    assert f"<td>{ray.__version__}</td>" in page
    assert "3 workers, 1 loss." in page
    assert '<td class="id">n13</td><td>row 13:' in page


def test_hours_of_devices_are_those_of_workers_times_their_chips(page: str) -> None:
    assert "<b>2.0 h</b><span>of workers; 16.0 h of devices</span>" in page  # 0.5 + 1 + 0.5 hours
    assert "<th>devices</th><td>8 to a worker</td>" in page


def test_without_events_the_page_says_so(url: str) -> None:
    assert "no event log" in render_report(url)


def test_a_job_that_has_nothing_yet_has_a_page(tmp_path: Path) -> None:
    url = publish(job_over(tmp_path, ROWS), lambda number, row: [], success=False)
    assert "Nothing is finished yet." in render_report(url)


def test_rows_are_summed_up(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS, input={"columns": {"prompt": "prompt", "id": "name"}})
    facts = row_facts(JobFolder.open(publish(job, answer)))
    assert facts.reasons == {"stop": 32, "length": 4, "error": 4}
    assert facts.finished == 36
    assert facts.errors.most_common(1)[0][1] == 4  # like errors count as one
    assert facts.quantile(1.0) == 40


def test_rows_refused_for_their_grammar_and_cut_texts_are_counted(tmp_path: Path) -> None:
    def some(number: int, row: Mapping[str, Any]) -> Sequence[OutputRow]:
        if number % 10 == 3:
            return [failed(row["name"], "in.jsonl, row 3: own.structured_outputs.regex: no")]
        return answer(number, row)

    columns = {"columns": {"prompt": "prompt", "id": "name"}}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    plain = render_report(publish(job_over(tmp_path / "a", ROWS, input=columns), some))
    assert "Structured output: 4 rows refused for the grammar.</p>" in plain
    choice = {"structured_outputs": {"choice": ["a"]}}
    job = job_over(tmp_path / "b", ROWS, input=columns, sampling=choice)
    assert "4 rows refused for the grammar, 4 texts cut by max_tokens." in render_report(
        publish(job, some)
    )


def test_a_long_completion_counts_once_with_all_its_segments(tmp_path: Path) -> None:
    def long(number: int, row: Mapping[str, Any]) -> Sequence[OutputRow]:
        parts = [done("n", tokens=100, segment=i, finish_reason=None) for i in range(2)]
        return [*parts, done("n", tokens=7, segment=2)]

    job = job_over(tmp_path, ROWS[:1])
    assert row_facts(JobFolder.open(publish(job, long))).lengths == {207: 1}


def test_a_histogram_holds_everyone() -> None:
    lengths = {5: 2, 6: 1, 128: 40, 1000: 3}
    bars = histogram(lengths)  # type: ignore[arg-type]
    assert sum(samples for _, _, samples in bars) == 46
    assert (bars[0][0], bars[-1][1]) == (5, 1000)


def test_axes_have_round_ticks() -> None:
    assert linear(873.0, amount).ticks == [0, 200, 400, 600, 800, 1000]
    assert between(7, 128, amount).ticks == [50, 100]
    assert exact(400.0, (60, 120), amount).ticks == [0, 60, 120, 180, 240, 300, 360]
    assert doublings(3, 11, amount).ticks == [3, 4, 5, 6, 7, 8, 9, 10, 11]
