"""Ports for servers that are told theirs, and for addresses where nobody shall listen."""

import random
import socket
from contextlib import ExitStack

# Above those of Ray's workers, and below those that Linux gives to connections: any connection
# could take one of these before its server does, or while a killed server is away.
_QUIET = range(20_000, 32_768)


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, all different."""
    ports: list[int] = []
    with ExitStack() as stack:
        for port in random.SystemRandom().sample(_QUIET, len(_QUIET)):
            if len(ports) == count:
                break
            one = stack.enter_context(socket.socket())
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    assert len(ports) == count
    return ports
