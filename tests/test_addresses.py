"""Addresses as people write them."""

import pytest

from rgpipeline.addresses import plain_address


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
