"""Where an official Flax checkpoint lies: orbax's folders, and what belongs to them beside them.

CHECKPOINT/_METADATA, manifest.ocdbt, …     as the official library saves them
CHECKPOINT/ITEM/_METADATA, …                as newer versions of orbax do
STEP/ITEM/_METADATA, …                      as a CheckpointManager saves them at one step
ROOT/20/ITEM/_METADATA, …                   with all its steps: the latest is read

The tokenizer, and a configuration that somebody added, lie in one of these folders or in the one
above: the release has `2b-it/_METADATA` and `tokenizer.model` in one folder.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from rgpipeline.errors import WeightsError
from rgpipeline.storage.folders import Folder

_MARKS = ("_METADATA", "manifest.ocdbt", "checkpoint")
_STEP = re.compile(r"(?:[A-Za-z]\w*_)?(\d+)")  # 20, 00000020, ckpt_20
_ITEMS = ("params", "default", "state", "train_state", "model")  # the most likely first


class Found(NamedTuple):
    """An orbax checkpoint.

    Attributes:
        folder: The folder that orbax reads.
        above: The relative path from there to the folder that was given: ``, `../` or `../../`.
        note: What was chosen, if the given folder holds more; else empty.
    """

    folder: Folder
    above: str
    note: str

    def homes(self) -> Iterator[str]:
        """Relative paths to the folders in which its tokenizer may lie, the nearest first."""
        *others, name = self.folder.path_names()
        depth = 0
        if name in _ITEMS and others:
            depth, name = 1, others[-1]
        if _STEP.fullmatch(name):
            depth += 1
        depth = max(depth, self.above.count("../")) + 1
        yield from ("../" * level for level in range(min(depth, len(others)) + 1))


def find(folder: Folder) -> Found | None:
    """The checkpoint in a folder without safetensors; None if there is none.

    Raises:
        WeightsError: There are several, or the folder's store refuses.
        StoreError: A remote store failed again and again.
    """
    names = folder.names()
    if any(name.endswith(".safetensors") for name in names):
        return None
    if any(mark in names for mark in _MARKS):
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
    """The folder in a step, or in a release, that holds the parameters; None if there is none."""
    names = sorted(name for name in step.names() if "." not in name)
    known = [name for name in _ITEMS if name in names and step.has(f"{name}/_METADATA")]
    if known:
        return known[0]
    others = [name for name in names if name not in _ITEMS and not _STEP.fullmatch(name)]
    found = [name for name in others if step.has(f"{name}/_METADATA")]
    if len(found) > 1:
        raise WeightsError(
            f"{step.url}: several checkpoints: {', '.join(found)}; give the folder of the one you "
            f"want, such as {step.url}/{found[-1]}"
        )
    return found[0] if found else None


def _taken(what: str, steps: list[str]) -> str:
    return f"took {what}" + (f", the latest of {len(steps)} steps" if len(steps) > 1 else "")
