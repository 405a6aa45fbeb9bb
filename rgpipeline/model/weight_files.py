"""Which of a Hugging Face folder's files hold the weights."""

from collections.abc import Sequence
from typing import NamedTuple

from rgpipeline.errors import WeightsError
from rgpipeline.storage.folders import Folder

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_SHOWN = 3


class WeightFiles(NamedTuple):
    """The files, and what was taken where the folder holds more of them; else an empty note."""

    names: list[str]
    note: str


def weight_files(folder: Folder, named: object = None) -> WeightFiles:
    """The folder's safetensors files, chosen as transformers does.

    That is the file or index that `config.json` names, else `model.safetensors`, else what the
    index names. Where none of these is there: all safetensors files.

    Args:
        folder: The folder.
        named: `transformers_weights` of its `config.json`.

    Raises:
        WeightsError: There are none, or some that the index names are missing.
        StoreError: A remote store failed again and again.
    """
    present = sorted(name for name in folder.names() if name.endswith(".safetensors"))
    first = [named] if isinstance(named, str) else [_SINGLE, _INDEX]
    taken = next((name for name in first if name in folder.names()), None)
    if taken is None and isinstance(named, str):
        raise WeightsError(
            f"{folder.url}: config.json names {named} (transformers_weights), which is not there"
        )
    if taken is None:
        if not present:
            raise WeightsError(f"{folder.url}: no *.safetensors file{_hint(folder.names())}")
        return WeightFiles(present, "")
    files = [taken] if taken.endswith(".safetensors") else _indexed(folder, taken, present)
    left = [name for name in present if name not in files]
    if taken == _SINGLE and _INDEX in folder.names():
        left.append(_INDEX)
    return WeightFiles(files, f"took {taken}, not {_listed(left)}" if left else "")


def _indexed(folder: Folder, index: str, present: Sequence[str]) -> list[str]:
    """The files that an index names."""
    weight_map = folder.read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(map(_is_text, weight_map.values())):
        raise WeightsError(f"{folder.url}/{index}: no 'weight_map' of tensors to files")
    needed = sorted(set(weight_map.values()))
    missing = [name for name in needed if name not in present]
    if missing:
        raise WeightsError(
            f"{folder.url}: {index} names files that are not there: {', '.join(missing)}; "
            f"copy them, or the whole folder again"
        )
    return needed


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _hint(names: Sequence[str]) -> str:
    pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    if not pickled:
        return ""
    return (
        f"; {pickled[0]} is PyTorch's pickle, which runs code when read: save the model again "
        f"with save_pretrained(..., safe_serialization=True)"
    )
