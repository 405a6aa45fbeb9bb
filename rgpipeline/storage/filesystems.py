"""Opening file systems: fsspec's options for each protocol, secrets, timeouts, addresses."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec.core
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from rgpipeline.addresses import plain_address
from rgpipeline.errors import InputError, JobError, UserError
from rgpipeline.storage.hub_cache import offline_path

StorageOptions = Mapping[str, Mapping[str, Any]]  # fsspec's keyword arguments, by protocol

CONNECT_S, READ_S = 15, 60  # how long to wait for a connection, and for the next bytes
_REFERENCE = re.compile(r"\$\{(\w+)\}")
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_ALIASES = {"s3a": "s3", "gcs": "gs", "local": "file"}
# Protocols whose options may stand under each other's name.
_SAME_OPTIONS = (("s3", "s3a"), ("gs", "gcs"), ("http", "https"), ("az", "abfs", "abfss"))
_EXTRAS = {"s3": "s3", "gs": "gcs", "hf": "hf"}
# Google's etag changes with a file's labels too; its generation, with the content alone.
_VERSIONS = ("ETag", "generation", "etag", "md5Hash", "mtime", "LastModified", "created")


def protocol_of(url: str) -> str:
    """`s3`, `gs`, `file`…: one name for each kind of store."""
    found = _PROTOCOL.match(url)
    protocol = found[1].lower() if found else "file"
    return _ALIASES.get(protocol, protocol)


def checked_address(url: str, fault: type[UserError]) -> str:
    """The one spelling of an address, see `plain_address`. Raises `fault` if it is misspelt."""
    try:
        return plain_address(url)
    except ValueError as error:
        raise fault(str(error)) from error


def local_path(path: str, fault: type[UserError]) -> Path:
    """A path on this machine, `~` expanded. Raises `fault` if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        user = path.partition("/")[0]
        raise fault(
            f"{path}: there is no home folder of a user {user[1:]!r}; a folder that is called so "
            f"is ./{user}"
        ) from error


def open_filesystem(
    url: str, options: StorageOptions | None, fault: type[UserError] = InputError
) -> tuple[AbstractFileSystem, str]:
    """The fsspec file system that holds `url`, and the path inside it.

    Raises `fault` when the address is misspelt, the protocol is unknown or its package isn't
    installed; JobError for options that the protocol doesn't know.
    """
    url = checked_address(url, fault)
    protocol = protocol_of(url)
    if protocol == "file":  # fsspec would take `::` in a local path for a chain of addresses
        local = LocalFileSystem()
        return local, str(local._strip_protocol(url))
    keywords = keywords_for(protocol, resolve_options(options))
    try:
        filesystem, path = fsspec.core.url_to_fs(url, **_defaults(protocol, keywords), **keywords)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        install = f"; pip install 'rgpipeline[{extra}]'" if extra else ""
        raise fault(f"{url}: {protocol}:// cannot be opened ({error}){install}") from error
    except ValueError as error:
        raise fault(f"{url}: {protocol}:// cannot be opened ({error})") from error
    except TypeError as error:
        raise JobError(f"storage_options.{protocol}: {error}") from error
    return filesystem, path


def open_for_reading(
    url: str, options: StorageOptions | None, fault: type[UserError] = InputError
) -> tuple[AbstractFileSystem, str]:
    """As `open_filesystem`; with HF_HUB_OFFLINE, the Hub's cache on this machine for `hf://`."""
    url = checked_address(url, fault)
    if protocol_of(url) == "hf":
        with suppress(ImportError):  # which `open_filesystem` reports
            cached = offline_path(url, fault)
            if cached is not None:
                return LocalFileSystem(), cached
    return open_filesystem(url, options, fault)


def version_of(entry: Mapping[str, Any]) -> str:
    """What tells one content of a file from the next: an etag, or else when it was changed.

    `entry` is fsspec's listing entry; empty where the store tells neither.
    """
    found = next((entry[key] for key in _VERSIONS if entry.get(key)), "")
    return str(found).strip('"')


def keywords_for(protocol: str, options: StorageOptions) -> Mapping[str, Any]:
    """A protocol's options, under any of its names (`gs` is `gcs` too)."""
    group = next((names for names in _SAME_OPTIONS if protocol in names), (protocol,))
    return next((options[name] for name in (protocol, *group) if name in options), {})


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


def _defaults(protocol: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Timeouts for gcsfs, which has none: it would wait for ever for a reply that was lost.

    The other clients have timeouts of their own.
    """
    if protocol != "gs":
        return {}
    # gcsfs asks whether a bucket is a zonal one, by a slow call that other servers lack.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    if "requests_timeout" in keywords:
        return {}
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
    return {"requests_timeout": timeout}


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
