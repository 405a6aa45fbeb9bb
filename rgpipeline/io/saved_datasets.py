"""Folders that `save_to_disk` of Hugging Face `datasets` wrote: Arrow files among metadata."""

import posixpath
from collections.abc import Sequence

from rgpipeline.io.input_files import FoundFile

_METADATA = ("dataset_info.json", "state.json", "dataset_dict.json")  # not JSON Lines


def without_metadata(files: Sequence[FoundFile]) -> tuple[list[FoundFile], list[FoundFile]]:
    """(files that hold the rows, caches of `map` and `filter`), if it is such a folder; other
    files all hold rows.
    """
    rows = [file for file in files if not file.path.endswith(_METADATA)]
    if len(rows) == len(files) or not all(file.path.endswith(".arrow") for file in rows):
        return list(files), []
    caches = [file for file in rows if posixpath.basename(file.path).startswith("cache-")]
    if len(caches) == len(rows):
        return list(files), []
    return [file for file in rows if file not in caches], caches
