"""Mistakes in where completions go, and in what is asked of an output."""

from tests.cli.mistakes.case import ROWS, Bench, Mistake, file, nothing, setting


def _begin(bench: Bench) -> None:
    """A job that was planned, as a run does it at its start."""
    from rgpipeline.io.store import open_store
    from rgpipeline.jobfile import parse_job
    from rgpipeline.plan import open_or_create

    job = parse_job(bench.job(), "job.yaml")
    open_or_create(job, open_store(job.output.path))


def _other_seed(bench: Bench) -> None:
    _begin(bench)
    bench.set("sampling.seed", 7)


def _input_changed(bench: Bench) -> None:
    _begin(bench)
    bench.parquet("prompts.parquet", ROWS.slice(0, 1))


def _input_added(bench: Bench) -> None:
    bench.parquet("in/a.parquet", ROWS)
    bench.set("input.path", "in")
    _begin(bench)
    bench.parquet("in/b.parquet", ROWS)


def _input_gone(bench: Bench) -> None:
    bench.parquet("in/a.parquet", ROWS)
    bench.parquet("in/b.parquet", ROWS)
    bench.set("input.path", "in")
    _begin(bench)
    (bench.folder / "in/b.parquet").unlink()


def _plan_spoilt(bench: Bench) -> None:
    _begin(bench)
    (bench.folder / "out/_rgp/plan.json").write_text("{")


def _score(bench: Bench) -> None:
    bench.set("task", "score")
    _begin(bench)


def asked(name: str, command: list[str], *says: str) -> Mistake:
    return Mistake(name, nothing, says, command)


CASES = [
    Mistake("a file in its place", file("out", "hello"), ("out", "file")),
    Mistake(
        "a folder of other things",
        file("out/thesis.doc", "x"),
        ("out", "not empty", "thesis.doc", "name another output.path"),
    ),
    Mistake(
        "a protocol that can't create once",
        setting("output.path", "memory://out"),
        ("memory://out", "use a local path, s3:// or gs://"),
    ),
    Mistake(
        "another job's",
        _other_seed,
        ("out", "sampling.seed: 0 there, 7 now", "choose a new output.path"),
    ),
    Mistake("changed input", _input_changed, ("prompts.parquet", "bytes", "new output.path")),
    Mistake("a new input file", _input_added, ("b.parquet is new", "new output.path")),
    Mistake("an input file gone", _input_gone, ("b.parquet is gone", "new output.path")),
    Mistake("a plan that isn't one", _plan_spoilt, ("_rgp/plan.json", "not understood")),
    asked("status of nothing", ["status", "nowhere"], "nowhere", "not the output of a job"),
    asked("status of the input", ["status", "."], "not the output of a job"),
    asked("cat of nothing", ["cat", "nowhere"], "nowhere", "not the output of a job"),
    asked("report of nothing", ["report", "nowhere"], "nowhere", "not the output of a job"),
    asked("stop of nothing", ["stop", "nowhere"], "nowhere", "not the output of a job"),
    asked("retry of nothing", ["retry", "nowhere", "--output", "x"], "not the output of a job"),
    Mistake(
        "an id that isn't there",
        _begin,
        ("no completion with id 'zz'",),
        ("cat", "out", "--id", "zz"),
    ),
    Mistake("texts of scores", _score, ("task: score writes no texts",), ("cat", "out")),
    Mistake(
        "a report where there is no folder",
        _begin,
        ("no/such/report.html", "No such file or directory"),
        ("report", "out", "--to", "no/such/report.html"),
    ),
]
