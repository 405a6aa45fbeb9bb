"""Addresses of files and folders: how people write them, and the one spelling used inside.

Layer 0. Opens nothing.
"""

import importlib.resources
import re
from urllib.parse import unquote

DEMO = "demo"  # the address of the model and of the prompts that ship with the package
DEMO_FOLDER = str(importlib.resources.files("rgpipeline") / "demo")  # where they are

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_CHAIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://.*?)?::")
_LOCAL = ("file", "local")
# Without slashes, `s3:x` is a mistake, but `notes:x` is a file's name.
_STORES = ("s3", "s3a", "gs", "gcs", "hf", "http", "https", "abfs", "az", "hdfs", "dbfs")


def plain_address(text: str) -> str:
    """The address with a lower-case scheme; of a local one, the path with percent signs decoded.

    `file:///my%20data`, `file:/my%20data` and `file://localhost/my%20data` become `/my data`.
    Raises ValueError saying what is wrong with an address and how to write it.
    """
    if _CHAIN.match(text):
        raise ValueError(
            f"{text}: addresses chained by :: can't be read; unpack or copy the file, and name the "
            f"copy (begin a local path that has :: in it with ./)"
        )
    found = _SCHEME.fullmatch(text)
    if found is None:
        return text
    scheme, rest = found[1].lower(), found[2]
    if scheme in _LOCAL:
        return _local(text, rest)
    if rest.startswith("///") and scheme in _STORES:
        raise ValueError(f"{text}: an address has two slashes; write {scheme}:{rest[1:]}")
    if rest.startswith("//"):
        return f"{scheme}:{rest}"
    if rest.startswith("/") or scheme in _STORES:
        raise ValueError(f"{text}: {_spelling(text, scheme, rest)}")
    return text


def _local(text: str, rest: str) -> str:
    path = rest.removeprefix("//").removeprefix("localhost/")
    if rest.startswith("//localhost/"):
        path = f"/{path}"
    if not path or not rest.startswith("/"):
        raise ValueError(f"{text}: names no path; write file:///PATH, or the path alone")
    return unquote(path)


def _spelling(text: str, scheme: str, rest: str) -> str:
    """The hint for an address with too few slashes."""
    name = rest.lstrip("/")
    if scheme == "dbfs":
        return f"no address; write /dbfs/{name}, where Databricks mounts it, or dbfs://{name}"
    local = "" if scheme in _STORES else f", or ./{text} for a local path"
    return f"an address has two slashes; write {scheme}://{name}{local}"
