"""What is in a job's output folder: its rows, how far it is, and its texts made whole.

Layer 4. Works from the folder alone: no Ray, and no driver that must be up.
"""

from rgpipeline.output.dataset import open_output
from rgpipeline.output.progress import ShardProgress, read_progress
from rgpipeline.output.status import (
    Heartbeat,
    Status,
    read_heartbeat,
    read_status,
    withdraw_success,
    write_heartbeat,
    write_success,
)
from rgpipeline.output.texts import WholeText, cat

__all__ = [
    "Heartbeat",
    "ShardProgress",
    "Status",
    "WholeText",
    "cat",
    "open_output",
    "read_heartbeat",
    "read_progress",
    "read_status",
    "withdraw_success",
    "write_heartbeat",
    "write_success",
]
