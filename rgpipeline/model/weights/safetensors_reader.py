"""Safetensors files, read tensor by tensor through fsspec; local files are memory-mapped.

A file is 8 bytes (length of the header, little endian), a JSON header (name → dtype, shape,
offsets), and the tensors' bytes.
"""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from rgpipeline.errors import WeightsError
from rgpipeline.model.param_tree import HostArray
from rgpipeline.model.weights.recipes import Stored
from rgpipeline.model.weights.refusals import quantized_tensor
from rgpipeline.storage.folders import Folder
from rgpipeline.storage.small_files import require_content

_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F64": np.dtype(np.float64),
}
_COMPARED = 4 << 20  # values at a time
_MAX_HEADER = 100 << 20


class _ByteRange(NamedTuple):
    """A tensor's bytes in its file."""

    start: int
    stop: int


class SafetensorsReader:
    """All tensors of some safetensors files in a folder, by name.

    Attributes:
        tensors: All tensors, from the headers alone.
    """

    def __init__(self, folder: Folder, files: Sequence[str]) -> None:
        """Reads the headers.

        Raises:
            WeightsError: Files are truncated or malformed. The message names all of them.
            StoreError: A remote store failed again and again.
        """
        self._folder = folder
        self.tensors: dict[str, Stored] = {}
        self._ranges: dict[str, _ByteRange] = {}
        faults: list[str] = []
        for file in files:
            try:
                self._add(file)
            except WeightsError as fault:
                faults.append(str(fault))
        if faults:
            raise WeightsError("\n  ".join([f"{folder.url}: unreadable weights:", *faults]))

    def read(self, name: str) -> HostArray:
        """The tensor's values: a view of a local file, or read from a remote one."""
        tensor, span = self.tensors[name], self._ranges[name]
        raw = self._folder.read_range(tensor.file, span.start, span.stop)
        return raw.view(tensor.dtype).reshape(tensor.shape)

    def equal(self, one: str, other: str) -> bool:
        """Whether two tensors hold the same values; reads them in pieces, to the first difference.

        Raises:
            StoreError: A remote store failed again and again.
        """
        if self.tensors[one].shape != self.tensors[other].shape:
            return False
        count = math.prod(self.tensors[one].shape)
        for start in range(0, count, _COMPARED):
            stop = min(start + _COMPARED, count)
            first, second = (self._values(name, start, stop) for name in (one, other))
            if first.dtype == second.dtype and first.tobytes() == second.tobytes():
                continue
            if not np.array_equal(first.astype(np.float64), second.astype(np.float64)):
                return False
        return True

    def _values(self, name: str, start: int, stop: int) -> HostArray:
        """Values `start` to `stop` of the flattened tensor."""
        tensor, first = self.tensors[name], self._ranges[name].start
        size = tensor.dtype.itemsize
        raw = self._folder.read_range(tensor.file, first + start * size, first + stop * size)
        return raw.view(tensor.dtype)

    def _add(self, file: str) -> None:
        size = self._folder.file(file).size
        header, data = _header(self._folder, file, size)
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if name in self.tensors:
                raise WeightsError(f"{file}: tensor {name} is also in {self.tensors[name].file}")
            kind = entry.get("dtype") if isinstance(entry, dict) else None
            if isinstance(kind, str) and kind not in _DTYPES:
                why = quantized_tensor(kind, header) or f"; supported: {', '.join(_DTYPES)}"
                raise WeightsError(f"{file}: tensor {name} has dtype {kind}{why}")
            self.tensors[name], self._ranges[name] = _stored(file, name, entry, data, size)


def _header(folder: Folder, file: str, size: int) -> tuple[dict[str, Any], int]:
    """The parsed header, and the offset of the data."""
    if size < 8:
        raise WeightsError(f"{file}: {size} bytes, not a safetensors file; copy it again")
    head = folder.read_range(file, 0, min(size, 64)).tobytes()
    require_content(head, file)
    length = int.from_bytes(head[:8], "little")
    if length > min(size - 8, _MAX_HEADER):
        raise WeightsError(
            f"{file}: truncated or not a safetensors file: a header of {length} bytes in "
            f"{size} bytes; copy it again"
        )
    try:
        header = json.loads(folder.read_range(file, 8, 8 + length).tobytes())
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{file}: not a safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{file}: not a safetensors file: its header is no JSON object")
    return header, 8 + length


def _stored(file: str, name: str, entry: Any, data: int, size: int) -> tuple[Stored, _ByteRange]:
    match entry:
        case {
            "dtype": str(kind),
            "shape": list(sides),
            "data_offsets": [int(first), int(last)],
        } if all(type(length) is int and length >= 0 for length in [*sides, first, last]):
            start, stop = data + first, data + last
        case _:
            raise WeightsError(
                f"{file}: corrupt: its header lacks what tensor {name} is; copy it again"
            )
    dtype, shape = _DTYPES[kind], tuple(sides)
    if stop > size:
        raise WeightsError(
            f"{file}: truncated: tensor {name} ends at byte {stop}, the file has {size}; "
            f"copy it again"
        )
    if stop - start != math.prod(shape) * dtype.itemsize:
        raise WeightsError(
            f"{file}: tensor {name} of shape {list(shape)} has {stop - start} bytes, "
            f"not {math.prod(shape) * dtype.itemsize}"
        )
    return Stored(file, shape, dtype), _ByteRange(start, stop)
