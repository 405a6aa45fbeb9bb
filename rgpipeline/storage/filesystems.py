"""Storage options: what fsspec is told of each protocol, with secrets from the environment."""

import os
import re
from collections.abc import Mapping
from typing import Any

import fsspec.core
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from rgpipeline.addresses import plain_address
from rgpipeline.errors import InputError, JobError

StorageOptions = Mapping[str, Mapping[str, Any]]  # fsspec's keyword arguments, by protocol

_REFERENCE = re.compile(r"\$\{(\w+)\}")
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_ALIASES = {"s3a": "s3", "gcs": "gs", "local": "file"}


def resolve_options(
    options: StorageOptions | None, environment: Mapping[str, str] = os.environ
) -> dict[str, dict[str, Any]]:
    """The options with every `${NAME}` replaced by the environment's value of NAME.

    Resolving twice is harmless. Raises JobError naming the option and the missing variable; a
    value itself is never part of a message.
    """
    return {
        protocol: {
            key: _resolved(value, f"storage_options.{protocol}.{key}", environment)
            for key, value in keywords.items()
        }
        for protocol, keywords in (options or {}).items()
    }


def open_filesystem(url: str, options: StorageOptions | None) -> tuple[AbstractFileSystem, str]:
    """The fsspec file system that holds `url`, and the path inside it.

    Raises InputError when the protocol is unknown or its package isn't installed, or the address
    is misspelt.
    """
    try:
        url = plain_address(url)
    except ValueError as error:
        raise InputError(str(error)) from error
    protocol = protocol_of(url)
    if protocol == "file":  # fsspec would take `::` in a local path for a chain of addresses
        local = LocalFileSystem()
        return local, str(local._strip_protocol(url))
    keywords = keywords_for(protocol, resolve_options(options))
    try:
        filesystem, path = fsspec.core.url_to_fs(url, **_defaults(protocol, keywords), **keywords)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: {protocol}:// cannot be opened ({error})") from error
    except TypeError as error:
        raise JobError(f"storage_options.{protocol}: {error}") from error
    return filesystem, path


def keywords_for(protocol: str, options: StorageOptions) -> Mapping[str, Any]:
    """A protocol's options, under any of its names (`gs` is `gcs` too)."""
    spellings = [protocol, *(other for other, main in _ALIASES.items() if main == protocol)]
    return next((options[name] for name in spellings if name in options), {})


def _defaults(protocol: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """gcsfs would wait for ever for an answer that a broken connection lost."""
    if protocol != "gs":
        return {}
    # It asks whether a bucket is a zonal one, by a slow call that other servers lack.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    if "requests_timeout" in keywords:
        return {}
    from aiohttp import ClientTimeout

    return {"requests_timeout": ClientTimeout(total=None, sock_connect=15, sock_read=60)}


def protocol_of(url: str) -> str:
    """`s3`, `gs`, `file`…: one name for each kind of store."""
    found = _PROTOCOL.match(url)
    protocol = found[1].lower() if found else "file"
    return _ALIASES.get(protocol, protocol)


def _resolved(value: Any, where: str, environment: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: _lookup(match[1], where, environment), value)
    if isinstance(value, Mapping):
        return {k: _resolved(v, f"{where}.{k}", environment) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolved(item, where, environment) for item in value]
    return value


def _lookup(name: str, where: str, environment: Mapping[str, str]) -> str:
    if name not in environment:
        raise JobError(
            f"{where}: the environment has no {name}; set it for the driver and every worker"
        )
    return environment[name]
