"""All use of Ray's private modules, which a new version of Ray may change."""

import contextlib
import logging
from collections.abc import Iterator, Set
from typing import Any

from ray._common.utils import get_default_ray_temp_dir
from ray._private import services, state, worker
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)


def cluster_address() -> str | None:
    """The GCS address that RAY_ADDRESS names, or of the cluster that `ray start` has started here.

    Unlike `auto` of `ray.init`, it leaves private clusters of other processes alone.
    """
    found: str | None = services.get_ray_address_from_environment(None, None)  # type: ignore[arg-type]
    return found


def default_temp_folder() -> str:
    """Where Ray keeps its files by default: below RAY_TMPDIR, TMPDIR or /tmp."""
    return str(get_default_ray_temp_dir())  # type: ignore[no-untyped-call]


def draining_nodes() -> Set[str]:
    """Ids of nodes with a drain notice: spot preemption, scaling down."""
    return state.state.get_draining_nodes().keys()


def enable_token_auth() -> None:
    """Has Ray's clients send the token of RAY_AUTH_TOKEN or its file, where there is one.

    `ray.init` does this, the client of Ray Jobs doesn't; clusters ask for a token by default.
    """
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


@contextlib.contextmanager
def messages_logged(log: logging.Logger) -> Iterator[None]:
    """Sends what Ray prints of its workers to `log`.

    Ray prints a page about every worker that dies, over whatever is on the terminal.
    """

    def write(data: dict[str, Any], ignore_prefix: bool = False) -> None:
        for line in data.get("lines", ()):
            log.info("%s: %s", data.get("pid", "ray"), line)

    before, worker.print_to_stdstream = worker.print_to_stdstream, write
    try:
        yield
    finally:
        worker.print_to_stdstream = before
