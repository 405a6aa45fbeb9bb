"""Mistakes on the command line itself."""

from tests.cli.mistakes.case import Mistake, nothing


def typed(name: str, command: list[str], *says: str) -> Mistake:
    return Mistake(name, nothing, says, command)


def generate(name: str, options: list[str], *says: str) -> Mistake:
    return typed(name, ["generate", "--model", "demo", *options], *says)


CASES = [
    Mistake(
        "an output with one slash",
        nothing,
        ("s3:/bucket/x", "write s3://bucket/x"),
        ("status", "s3:/bucket/x"),
    ),
    Mistake(
        "a model with one slash",
        nothing,
        ("gs:/bucket/x", "write gs://bucket/x"),
        ("generate", "--model", "gs:/bucket/x", "In the"),
    ),
    Mistake(
        "a model to fit with one slash",
        nothing,
        ("gs:/bucket/x", "write gs://bucket/x"),
        ("fit", "--model", "gs:/bucket/x", "--topology", "v5e:1x1x1"),
    ),
    typed("no such command", ["runn"], "No such command 'runn'", "Did you mean", "--help"),
    typed("no job", ["run"], "Missing argument 'JOB'", "rgpipeline run --help"),
    typed("no such option", ["run", "job.yaml", "--dryrun"], "--dryrun", "--dry-run"),
    typed("two jobs", ["run", "a.yaml", "b.yaml"], "b.yaml", "rgpipeline run --help"),
    typed("an option without its value", ["run", "job.yaml", "--set"], "--set"),
    typed("no such job to run", ["run", "nope.yaml"], "nope.yaml", "no such file"),
    typed("no such format", ["cat", "out", "--format", "csv"], "--format", "jsonl"),
    typed("a negative number of samples", ["run", "job.yaml", "--samples", "-1"], "--samples"),
    typed("retry without a new output", ["retry", "out"], "--output"),
    typed("submit without an address", ["submit", "job.yaml"], "--address"),
    typed(
        "a storage option without its protocol",
        ["status", "out", "--storage", "endpoint_url=http://x"],
        "--storage endpoint_url=http://x",
        "PROTOCOL.KEY=VALUE",
    ),
    generate("an empty prompt", [""], "the prompt is empty", "give some text"),
    generate("no prompt", [], "PROMPT"),
    generate("a dtype there isn't", ["x", "--dtype", "fp16"], "--dtype fp16", "bfloat16"),
    generate("a negative temperature", ["x", "--temperature", "-1"], "sampling.temperature"),
    generate(
        "a length that is no number", ["x", "--max-tokens", "lots"], "--max-tokens", "integer"
    ),
    typed("generate by no model", ["generate", "x"], "--model"),
    typed("generate by no such model", ["generate", "--model", "nope", "x"], "nope"),
    typed("a TPU there isn't", ["fit", "--model", "demo", "--topology", "v9:1x1"], "v9"),
    typed(
        "no number of slots",
        ["fit", "--model", "demo", "--topology", "v5e:1x1x1", "--slots", "some"],
        "--slots",
        "some",
    ),
]
