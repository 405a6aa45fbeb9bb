"""Arrays and texts as the bytes of one safetensors file, with a checksum of everything."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

UNREADABLE = (safetensors.SafetensorError, ValueError, KeyError, TypeError)
_DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def pack(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """The file's bytes."""
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    checked = {**metadata, "crc32": _checksum(ordered, metadata)}
    return safetensors.numpy.save(ordered, checked)


def unpack(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays and the metadata. Raises one of `UNREADABLE` if the bytes are damaged."""
    metadata = _metadata(data)
    arrays = {
        key: np.frombuffer(view["data"], _DTYPES[view["dtype"]]).reshape(view["shape"])
        for key, view in safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    }
    crc = metadata.pop("crc32", None)  # earlier versions wrote none
    if crc not in (None, _checksum(arrays, metadata)):
        raise ValueError("its checksum is another")
    return arrays, metadata


def _checksum(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> str:
    """A checksum of everything: a changed bit would change tokens without any error."""
    crc = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].reshape(-1).view(np.uint8).data, crc)
    return f"{crc:08x}"


def _metadata(data: bytes) -> dict[str, str]:
    """The metadata in the header, which is JSON after its length; safetensors reads only files'."""
    length = int.from_bytes(data[:8], "little")
    header: dict[str, dict[str, str]] = json.loads(data[8 : 8 + length])
    return header["__metadata__"]
