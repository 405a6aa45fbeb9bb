"""Mistakes with buckets and credentials; each case is told where a server is."""

from typing import Any

from tests.cli.mistakes.case import Bench, Mistake

Options = dict[str, dict[str, Any]]


def elsewhere(key: str, url: str, options: Options, *says: str) -> Mistake:
    def make(bench: Bench) -> None:
        bench.set(key, url).set("storage_options", options)

    return Mistake(f"{key}: {url}", make, says)


def no_bucket(options: Options) -> list[Mistake]:
    return [
        elsewhere("input.path", "s3://nowhere/x.parquet", options, "s3://nowhere/x.parquet"),
        elsewhere("output.path", "s3://nowhere/out", options, "s3://nowhere/out", "no such bucket"),
        elsewhere("model.weights", "s3://nowhere/w", options, "s3://nowhere/w", "no such folder"),
    ]


def no_rights(url: str, options: Options) -> list[Mistake]:
    """`options` with a key that the server doesn't know."""
    strange = {"s3": {**options["s3"], "key": "nobody", "secret": "${RGP_TEST_SECRET}"}}
    says = ("not allowed", "check", "the credentials in the environment")
    return [
        elsewhere(key, f"{url}/{name}", strange, f"{url}/{name}", *says)
        for key, name in (
            ("input.path", "x.parquet"),
            ("output.path", "out"),
            ("model.weights", "w"),
        )
    ]
