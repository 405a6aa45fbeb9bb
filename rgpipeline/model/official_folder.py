"""Where in a folder an orbax checkpoint is: there, in an item of a step, or in the latest step.

CHECKPOINT/_METADATA, manifest.ocdbt, …       what the official library saves
STEP/ITEM/_METADATA, …                        what a CheckpointManager saves at one step
ROOT/20/ITEM/_METADATA, …                     all its steps
"""

import re
from typing import NamedTuple

from rgpipeline.storage.folders import Folder

_MARKS = ("_METADATA", "manifest.ocdbt", "checkpoint")
_STEP = re.compile(r"(?:[A-Za-z]\w*_)?(\d+)")  # 20, 00000020, ckpt_20
_ITEMS = ("params", "default", "state", "train_state", "model")  # the likeliest first


class Found(NamedTuple):
    """An orbax checkpoint.

    Attributes:
        folder: The one that orbax reads.
        above: What leads from there to the folder that was given: `` or `../`, once or twice.
        note: What was taken, where the folder given holds more.
    """

    folder: Folder
    above: str
    note: str


def find(folder: Folder) -> Found | None:
    """The checkpoint in a folder; None if there is none.

    Raises:
        WeightsError, StoreError: The folder's store refuses or fails.
    """
    if any(mark in folder.names() for mark in _MARKS):
        return Found(folder, "", "")
    item = _item(folder)
    if item is not None:
        return Found(folder.child(item), "../", f"took {item}")
    steps = _steps(folder)
    for name in steps:
        step = folder.child(name)
        if any(mark in step.names() for mark in _MARKS):
            return Found(step, "../", _taken(name, steps))
        item = _item(step)
        if item is not None:
            return Found(step.child(item), "../../", _taken(f"{name}/{item}", steps))
    return None


def _steps(folder: Folder) -> list[str]:
    """Names of the folders of steps, the latest first."""
    found = [(int(match[1]), name) for name in folder.names() if (match := _STEP.fullmatch(name))]
    return [name for _, name in sorted(found, reverse=True)]


def _item(step: Folder) -> str | None:
    """The item of a step that is likeliest to hold the parameters."""
    names = sorted(name for name in step.names() if "." not in name)
    known = [name for name in _ITEMS if name in names]
    others = [name for name in names if name not in known and not _STEP.fullmatch(name)]
    return next((name for name in (*known, *others) if step.has(f"{name}/_METADATA")), None)


def _taken(what: str, steps: list[str]) -> str:
    return f"took {what}" + (f", the latest of {len(steps)} steps" if len(steps) > 1 else "")
