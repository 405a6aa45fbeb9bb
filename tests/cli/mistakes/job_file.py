"""Mistakes in the job file and in overrides of it."""

from tests.cli.mistakes.case import Bench, Mistake, file, nothing, setting


def value(key: str, wrong: object, *says: str) -> Mistake:
    return Mistake(f"{key}: {wrong!r}", setting(key, wrong), (key, *says))


def override(text: str, *says: str) -> Mistake:
    return Mistake(f"--set {text}", nothing, says, ("validate", "job.yaml", "--set", text))


def _two_faults(bench: Bench) -> None:
    bench.set("sampling.temprature", 1).set("input.path", "nowhere.parquet")
    bench.set("model.weights", "no-such-folder")


CASES = [
    Mistake("no such file", nothing, ("nope.yaml", "no such file"), ("validate", "nope.yaml")),
    Mistake("a folder", nothing, ("folder",), ("validate", ".")),
    Mistake("empty file", file("job.yaml", ""), ("job.yaml", "nothing", "model")),
    Mistake("a list", file("job.yaml", "- a\n- b\n"), ("job.yaml", "a list", "mapping")),
    Mistake("a word", file("job.yaml", "demo"), ("job.yaml", "mapping")),
    Mistake("YAML syntax", file("job.yaml", "model: {weights: demo\n"), ("job.yaml", "line")),
    Mistake("a tab", file("job.yaml", "model:\n\tweights: demo\n"), ("job.yaml", "tab")),
    Mistake("not text", file("job.yaml", b"\xff\xfe\x00\x01"), ("job.yaml",)),
    Mistake("twice the key", file("job.yaml", "name: a\nname: b\n"), ("job.yaml", "name", "twice")),
    value("output.path", "s3:/bucket/x", "s3:/bucket/x", "write s3://bucket/x"),
    value("output.path", "dbfs:/x", "dbfs:/x", "write /dbfs/x"),
    value("input.path", "s3:/bucket/x", "write s3://bucket/x"),
    value("input.path", ["prompts.parquet", "gs:/bucket/x"], "write gs://bucket/x"),
    value("input.path", "simplecache::s3://bucket/x", "chained by ::"),
    value("model.weights", "gs:/bucket/x", "write gs://bucket/x"),
    value("model.tokenizer", "https:/host/x", "write https://host/x"),
    value("smapling", {}, "unknown key", "did you mean 'sampling'?"),
    value("sampling.temprature", 1, "unknown key", "did you mean 'temperature'?"),
    value("max_tokens", 5, "unknown key", "did you mean 'sampling.max_tokens'?"),
    Mistake("no weights", lambda b: b.drop("model.weights"), ("model.weights", "missing")),
    Mistake("no input", lambda b: b.drop("input"), ("input", "missing")),
    Mistake("no output path", lambda b: b.drop("output.path"), ("output.path", "missing")),
    value("model", "demo", "should be a section"),
    value("sampling.max_tokens", "many", "should be a valid integer", "'many'"),
    value("sampling.max_tokens", -1, "greater than or equal to 0"),
    value("sampling.temperature", -0.5, "greater than or equal to 0"),
    value("sampling.temperature", float("nan"), "finite"),
    value("sampling.top_p", 0, "greater than 0"),
    value("sampling.top_p", 1.5, "less than or equal to 1"),
    value("sampling.top_k", -1, "greater than or equal to 0"),
    value("sampling.min_p", 1, "less than 1"),
    value("sampling.n", 0, "greater than or equal to 1"),
    value("sampling.seed", -1, "greater than or equal to 0"),
    value("sampling.logprobs", 99, "less than or equal to 20"),
    value("sampling.repetition_penalty", 0, "greater than 0"),
    value("sampling.stop", [""], "stop string is empty", "remove it"),
    value("sampling.stop_ids", ["END"], "should be a valid integer"),
    value("sampling.stop_ids", [-5], "should be greater than or equal to 0", "-5"),
    value("sampling.stop_ids", -5, "should be greater than or equal to 0", "-5"),
    value("sampling.stop_ids", [True], "True is no token id"),
    value("sampling.stop_ids", True, "True is no token id"),
    value("sampling.logit_bias", {-5: 1.0}, "should be greater than or equal to 0", "-5"),
    value("sampling.logit_bias", {"the": 1}, "integer"),
    value("sampling.structured_outputs", {"json": {"not": {}}}, "structured_outputs.json", "not"),
    value("sampling.structured_outputs", {"json": "none.json"}, "there is no file none.json"),
    value("sampling.structured_outputs", {"regex": "(a"}, "regex", "unclosed group"),
    Mistake(
        "min above max tokens",
        lambda b: b.set("sampling.min_tokens", 300),
        ("min_tokens 300 is above max_tokens 256", "lower it"),
    ),
    value("task", "generat", "'generate', 'score' or 'embed'"),
    value("name", "my job/1", "letters, digits", "'my job/1'"),
    value("model.dtype", "float16", "'auto', 'float32' or 'bfloat16'"),
    value("model.quantize", "int4", "'none' or 'int8'"),
    value("input.format", "xlsx", "'tsv', 'arrow' or 'openai-batch'"),
    value("input.limit", 0, "greater than or equal to 1"),
    value("input.path", [], "no path given", "name a file, a folder or a glob"),
    value("output.segment_tokens", 1, "greater than or equal to 16"),
    value("engine.slots", "many", "'auto'"),
    value("workers.count", 0, "greater than or equal to 1"),
    Mistake(
        "min above count",
        lambda b: b.set("workers.count", 2).set("workers.min", 3),
        ("workers", "min 3 is above count 2", "lower it"),
    ),
    value("workers.mesh", {"model": 0}, "greater than or equal to 1"),
    value("faults.worker_timeout_s", 0, "greater than 0"),
    value("faults.max_failed_rows", -1, "greater than or equal to 0"),
    Mistake(
        "two sources of prompts",
        setting("input.columns", {"prompt": "prompt", "messages": "chat"}),
        ("input", "exactly one of", "columns.prompt and columns.messages"),
    ),
    Mistake(
        "template and prompt",
        lambda b: b.set("input.template", "{n}").set("input.columns", {"prompt": "prompt"}),
        ("input", "exactly one of", "columns.prompt and template"),
    ),
    Mistake(
        "batch with a prompt column",
        lambda b: b.set("input.format", "openai-batch").set("input.columns", {"prompt": "p"}),
        ("input", "bring their own prompts", "remove columns.prompt"),
    ),
    value("input.template", "Summarise", "names no column", "write {column}"),
    value("input.template", "Say {n", "write {{ and }}"),
    value("input.template", "Say {n:>3}", "more than a column's name"),
    Mistake(
        "completion column, but generating",
        setting("input.columns", {"prompt": "prompt", "completion": "n"}),
        ("input.columns.completion", "task: score"),
    ),
    Mistake(
        "pooling, but generating",
        setting("embed", {"pooling": "last"}),
        ("embed belongs to task: embed",),
    ),
    Mistake(
        "sampling, but embedding",
        lambda b: b.set("task", "embed").set("sampling", {"temperature": 0.5}),
        ("sampling belongs to task: generate or score",),
    ),
    Mistake(
        "a secret in the file",
        setting("storage_options", {"s3": {"secret": "hunter2"}}),
        ("s3.secret is a secret", "${NAME}"),
    ),
    Mistake(
        "a variable that isn't set",
        setting("storage_options", {"s3": {"key": "${RGP_NO_SUCH_KEY}"}}),
        ("storage_options.s3.key", "the environment has no RGP_NO_SUCH_KEY", "set it"),
    ),
    Mistake(
        "several at once",
        _two_faults,
        ("did you mean 'temperature'?", "nowhere.parquet", "no-such-folder"),
    ),
    override("sampling.seed", "--set sampling.seed", "key=value"),
    override("sampling.sed=1", "--set sampling.sed", "did you mean 'seed'?"),
    override("sampling.seed=[1", "--set sampling.seed"),
    override("model.weights.x=1", "--set model.weights.x", "not a section"),
    override("sampling.top_p=2", "--set sampling.top_p", "less than or equal to 1"),
]
