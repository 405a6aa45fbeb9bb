"""What was read of a text, as one safetensors file.

Arrays: `model.*`, the model's state by name; `tail`, int32 [t], the tokens that are not in it;
`seen`, uint8 [ceil(v / 8)], a bit for each token id. Metadata: `format`, the fields of `StateKind`,
`position`, `read`, `digest`, `in_turn`, and `crc32` of everything.
"""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from rgpipeline.errors import InputError, UserError
from rgpipeline.io.array_files import UNREADABLE, pack, unpack
from rgpipeline.read_texts import ReadText, StateKind
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.small_files import read_file

_FORMAT = "rgpipeline-state-1"
_MODEL = "model."


def state_bytes(read: ReadText) -> bytes:
    """The file's content; equal states have equal content."""
    arrays = {f"{_MODEL}{name}": array for name, array in read.arrays.items()}
    metadata = {
        "format": _FORMAT,
        "position": str(read.position),
        "read": str(read.read),
        "digest": read.digest,
        "in_turn": str(int(read.in_turn)),
        **{name: str(value) for name, value in asdict(read.kind).items()},
    }
    return pack({**arrays, "tail": read.tail, "seen": read.seen}, metadata)


def parse_state(data: bytes, where: str, fault: type[UserError] = InputError) -> ReadText:
    """The state in a file's content. Raises `fault`, naming the file `where`, if it is no state."""
    try:
        arrays, metadata = unpack(data)
        if metadata["format"] != _FORMAT:
            raise ValueError(f"its format is {metadata['format']}, and not {_FORMAT}")
        return ReadText(
            kind=_kind(metadata),
            arrays={
                name.removeprefix(_MODEL): array
                for name, array in arrays.items()
                if name.startswith(_MODEL)
            },
            read=int(metadata["read"]),
            tail=arrays["tail"].astype(np.int32),
            seen=arrays["seen"].astype(np.uint8),
            digest=metadata["digest"],
            in_turn=metadata["in_turn"] == "1",
        )
    except UNREADABLE as error:
        raise fault(
            f"{where}: not a state that can be read ({error}); it is damaged or no state: read "
            f"the text again"
        ) from error


def _kind(metadata: Mapping[str, str]) -> StateKind:
    return StateKind(
        model=metadata["model"],
        dtype=metadata["dtype"],
        quantize=metadata["quantize"],
        window=int(metadata["window"]),
        vocabulary=int(metadata["vocabulary"]),
        prefill_chunk=int(metadata["prefill_chunk"]),
    )


def load_state(url: str, storage_options: StorageOptions | None = None) -> ReadText:
    """The state in the file at `url`. Raises InputError, StoreError."""
    data = read_file(url, storage_options, InputError)
    if data is None:
        raise InputError(f"{url}: no state is there; read the text again, or correct the address")
    return parse_state(data, url)
