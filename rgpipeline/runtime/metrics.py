"""Prometheus metrics through Ray: every node serves them on its metrics port."""

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

from rgpipeline.records import WorkerReport

_WORKER_TAGS = ("rgp_job", "rgp_worker")
_JOB_TAGS = ("rgp_job",)

# Names and descriptions. Ray adds `ray_` in front and, for counters, `_total` behind.
WORKER_COUNTERS = {
    "rgpipeline_prompt_tokens": "prompt tokens of rows done",
    "rgpipeline_completion_tokens": "tokens generated, or scored",
    "rgpipeline_rows_done": "rows finished without an error",
    "rgpipeline_rows_failed": "rows that carry an error",
    "rgpipeline_prefill_seconds": "seconds of prefill",
    "rgpipeline_decode_seconds": "seconds of decode",
    "rgpipeline_store_errors": "calls of the object store that failed and were tried again",
}
WORKER_GAUGES = {
    "rgpipeline_slots": "sequences decoded at once",
    "rgpipeline_slots_occupied": "slots with a sequence in them",
    "rgpipeline_rows_waiting": "rows admitted to no slot yet",
}
JOB_GAUGES = {
    "rgpipeline_job_rows": "rows of the job",
    "rgpipeline_job_rows_done": "rows that are final, failed ones among them",
    "rgpipeline_job_shards_waiting": "shards that no worker holds",
    "rgpipeline_job_workers": "workers that are there",
    "rgpipeline_job_workers_wanted": "workers that the job asks for",
    "rgpipeline_job_worker_deaths": "workers lost by fault since the driver began",
}


class WorkerMetrics:
    """One worker's metrics, updated from its reports."""

    def __init__(self, job: str, worker: str) -> None:
        tags = {"rgp_job": job, "rgp_worker": worker}
        self._counters = {
            name: Counter(name, text, _WORKER_TAGS) for name, text in WORKER_COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(name, text, _WORKER_TAGS) for name, text in WORKER_GAUGES.items()
        }
        for metric in (*self._counters.values(), *self._gauges.values()):
            metric.set_default_tags(tags)
        self._counted = dict.fromkeys(WORKER_COUNTERS, 0.0)

    def update(self, report: WorkerReport) -> None:
        """Counts what is new in `report` since the last call."""
        details = report.details
        totals = {
            "rgpipeline_prompt_tokens": report.prompt_tokens,
            "rgpipeline_completion_tokens": report.completion_tokens,
            "rgpipeline_rows_done": report.rows_done,
            "rgpipeline_rows_failed": report.rows_failed,
            "rgpipeline_prefill_seconds": details.get("prefill_s", 0.0),
            "rgpipeline_decode_seconds": details.get("decode_s", 0.0),
            "rgpipeline_store_errors": details.get("store_errors", 0.0),
        }
        for name, total in totals.items():
            gained = total - self._counted[name]
            if gained > 0:
                self._counters[name].inc(gained)
                self._counted[name] = total
        self._gauges["rgpipeline_slots"].set(report.slots)
        self._gauges["rgpipeline_slots_occupied"].set(report.occupied)
        self._gauges["rgpipeline_rows_waiting"].set(report.waiting)


class JobMetrics:
    """The driver's metrics of the whole job."""

    def __init__(self, job: str) -> None:
        self._gauges = {name: Gauge(name, text, _JOB_TAGS) for name, text in JOB_GAUGES.items()}
        for gauge in self._gauges.values():
            gauge.set_default_tags({"rgp_job": job})

    def update(self, figures: Mapping[str, float]) -> None:
        """Sets metrics by their names in `JOB_GAUGES`."""
        for name, value in figures.items():
            self._gauges[name].set(value)
