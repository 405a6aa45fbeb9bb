"""Addresses as people write them."""

import pytest

from rgpipeline.addresses import plain_address
from rgpipeline.spec import Job, ModelSpec, Spec


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("/my data", "/my data"),
        ("file:///my%20data", "/my data"),
        ("file:/tmp/x", "/tmp/x"),
        ("file://localhost/tmp/x", "/tmp/x"),
        ("file://data/x", "data/x"),
        ("S3://Bucket/X", "s3://Bucket/X"),
        ("s3://bucket/my%20data", "s3://bucket/my%20data"),
        ("notes:v2.parquet", "notes:v2.parquet"),
        ("./s3:/x", "./s3:/x"),
        ("./a::b", "./a::b"),
        ("C:/data", "C:/data"),
        ("demo", "demo"),
    ],
)
def test_an_address_has_one_spelling_inside(text: str, plain: str) -> None:
    assert plain_address(text) == plain
    assert plain_address(plain) == plain


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("s3:/bucket/x", "write s3://bucket/x"),
        ("s3:bucket/x", "write s3://bucket/x"),
        ("s3:///bucket/x", "write s3://bucket/x"),
        ("gs:/bucket/x", "write gs://bucket/x"),
        ("https:/host/x", "write https://host/x"),
        ("dbfs:/x", "write /dbfs/x"),
        ("oss:/bucket/x", "write oss://bucket/x, or ./oss:/bucket/x for a local path"),
        ("file:x", "write file:///PATH"),
        ("simplecache::s3://bucket/x", "can't be read; unpack or copy the file"),
        ("zip://a.jsonl::s3://bucket/x.zip", "can't be read; unpack or copy the file"),
    ],
)
def test_a_misspelt_address_is_refused_with_the_right_spelling(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy) as caught:
        plain_address(text)
    assert str(caught.value).startswith(f"{text}: ")


def test_a_job_names_each_of_its_urls_once_with_its_key() -> None:
    job = Job.model_validate(
        {
            "model": {
                "weights": "gs://models/2b",
                "adapter": "file:///models/lora",
                "base": "hf://owner/base",
                "tokenizer": "s3://models/tokenizer.model",
                "chat_template": "hf://owner/name/chat_template.jinja",
            },
            "input": {"path": ["s3://in/a.parquet", "in/*.jsonl"]},
            "output": {"path": "file:///out"},
        }
    )
    assert list(job.urls()) == [
        ("input.path", "s3://in/a.parquet"),
        ("input.path", "in/*.jsonl"),
        ("output.path", "/out"),
        ("model.weights", "gs://models/2b"),
        ("model.adapter", "/models/lora"),
        ("model.base", "hf://owner/base"),
        ("model.tokenizer", "s3://models/tokenizer.model"),
        ("model.chat_template", "hf://owner/name/chat_template.jinja"),
    ]
    fields = {
        f"{section}.{name}"
        for section in Job.model_fields
        if isinstance(getattr(job, section), Spec)
        for name, info in type(getattr(job, section)).model_fields.items()
        if "AfterValidator" in repr(info)  # that of `Address`
    }
    assert fields <= {key for key, _ in job.urls()}


def test_what_is_not_given_by_an_address_is_no_url() -> None:
    model = ModelSpec(weights="demo", chat_template="{{ messages[0].content }}")
    assert list(model.urls()) == [("model.weights", "demo")]
