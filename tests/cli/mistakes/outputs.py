"""Mistakes in where completions go, and in what is asked of an output."""

import shutil
from collections.abc import Callable
from pathlib import Path

from rgpipeline.jobfile import parse_job
from tests.cli.mistakes.case import ROWS, Bench, Mistake, file, nothing, setting
from tests.published import done, failed, publish


def _begin(bench: Bench) -> None:
    """A job that was planned, as a run does it at its start."""
    from rgpipeline.plan import open_or_create
    from rgpipeline.storage.store import open_store

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


def _with_parts(bench: Bench) -> Path:
    """A finished job with two parts; its folder."""
    job = parse_job(bench.job(), "job.yaml")
    publish(job, lambda number, row: [failed("a")] * (number == 0))
    publish(job, lambda number, row: [failed("a"), done("b", "text " * 50)][number:][:1])
    return bench.folder / "out"


def _damage(change: Callable[[bytes], bytes]) -> Callable[[Bench], object]:
    """The last part is changed."""

    def make(bench: Bench) -> None:
        part = _with_parts(bench) / "part-00000-0001.parquet"
        part.write_bytes(change(part.read_bytes()))

    return make


def _foreign(bench: Bench) -> None:
    _with_parts(bench)
    bench.parquet("out/part-00000-0001.parquet", ROWS)


def _other_jobs_part(bench: Bench) -> None:
    other = Bench(bench.folder / "other")
    other.set("input.path", "other/prompts.parquet").set("output.path", "other/out")
    other.set("sampling.seed", 9)
    theirs = _with_parts(other).parent / "out" / "part-00000-0001.parquet"
    theirs.replace(_with_parts(bench) / theirs.name)


def _spoilt(name: str, content: str = "") -> Callable[[Bench], object]:
    def make(bench: Bench) -> None:
        (_with_parts(bench) / name).write_text(content)

    return make


def _copied_without_rgp(bench: Bench) -> None:
    shutil.rmtree(_with_parts(bench) / "_rgp")


def _retry_spoilt(bench: Bench) -> None:
    _with_parts(bench)
    bench.write("again/_rgp/retry.json", "")


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
    *(
        Mistake(
            f"{command[0]} of a {kind} part",
            make,
            ("out/part-00000-0001.parquet", says, "remove this file", "run the job again"),
            command,
        )
        for kind, make, says in (
            ("cut", _damage(lambda data: data[: len(data) // 2]), "damaged: not a whole Parquet"),
            ("empty", _damage(lambda data: b""), "damaged: not a whole Parquet"),
            ("foreign", _foreign, "not written by rgpipeline"),
            ("misplaced", _other_jobs_part, "for another job"),
        )
        for command in (
            ("status", "out"),
            ("cat", "out"),
            ("report", "out"),
            ("retry", "out", "--output", "again"),
            ("run", "job.yaml"),
        )
    ),
    Mistake(
        "texts in a part are damaged",
        _damage(lambda data: data.replace(b"\x28\xb5\x2f\xfd", b"\0\0\0\0")),
        ("out/part-00000-0001.parquet", "damaged", "remove this file"),
        ("cat", "out"),
    ),
    Mistake(
        "parts without the job they belong to",
        _copied_without_rgp,
        ("out", "parts of a job", "_rgp/job.json", "copy _rgp, too"),
    ),
    Mistake(
        "status of parts without their job",
        _copied_without_rgp,
        ("out", "parts of a job", "copy _rgp, too"),
        ("status", "out"),
    ),
    Mistake(
        "a note of a retry that isn't one",
        _retry_spoilt,
        ("again/_rgp/retry.json", "not understood", "choose another output"),
        ("retry", "out", "--output", "again"),
    ),
    Mistake(
        "an empty job",
        _spoilt("_rgp/job.json"),
        ("_rgp/job.json", "not understood", "remove it and run the same job again"),
    ),
    Mistake(
        "an empty plan",
        _spoilt("_rgp/plan.json"),
        ("_rgp/plan.json", "not understood", "remove it and run the same job again"),
        ("cat", "out"),
    ),
    Mistake(
        "a home folder of nobody",
        setting("output.path", "~nosuch/x"),
        ("~nosuch/x", "no home folder of a user 'nosuch'", "./~nosuch"),
    ),
    asked("status below nobody's home", ["status", "~nosuch/x"], "no home folder of a user"),
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
