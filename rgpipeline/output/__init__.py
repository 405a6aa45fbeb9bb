"""Reads a job's output folder: its rows, its status, its whole texts, its failed rows.

Layer 4. Needs the folder alone: no Ray, and no running driver.
"""

from rgpipeline.output.job_folder import (
    Heartbeat,
    JobFolder,
    read_heartbeat,
    withdraw_success,
    write_heartbeat,
    write_success,
)
from rgpipeline.output.job_status import ShardProgress, Status, read_progress, read_status
from rgpipeline.output.published_parts import open_output
from rgpipeline.output.whole_texts import WholeText, whole_texts

__all__ = [
    "Heartbeat",
    "JobFolder",
    "ShardProgress",
    "Status",
    "WholeText",
    "open_output",
    "read_heartbeat",
    "read_progress",
    "read_status",
    "whole_texts",
    "withdraw_success",
    "write_heartbeat",
    "write_success",
]
