"""Structured logs: one JSON object a line, with job, worker and shard."""

import json
import logging
import sys
from typing import Any

from rgpipeline.worker.in_hand import shard_in_hand


class JsonLines(logging.Formatter):
    """`{"t", "level", "logger", "job", "worker", "shard", "message"}`.

    `shard` is null in lines about the worker as a whole, and about all shards it is at.
    """

    def __init__(self, **always: str) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "t": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._always,
            "shard": shard_in_hand(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(**always: str) -> None:
    """What rgpipeline logs goes to this process's stderr, which Ray keeps in a file."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(**always))
    logger = logging.getLogger("rgpipeline")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
