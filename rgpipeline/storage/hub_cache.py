"""The Hub's cache on a disk, which the Hub's own client fills.

~/.cache/huggingface/hub/models--OWNER--NAME/refs/main             a revision's commit
                                             /snapshots/COMMIT/…   its files, links into blobs/
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from rgpipeline.errors import UserError

if TYPE_CHECKING:
    from rgpipeline.storage.folders import Folder

MODEL = re.compile(r"models--([^-].*?)--(.+)")  # the folder of a model, by owner and name


def offline_path(url: str, fault: type[UserError]) -> str | None:
    """Where the cache has what is at `hf://…`, if HF_HUB_OFFLINE is set; None if it isn't.

    A file that its snapshot lacks has a path all the same. Raises `fault` if the cache has nothing
    of the repository's revision, ImportError without the Hub's client.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        return None
    from huggingface_hub import parse_hf_uri, snapshot_download

    try:
        parts = parse_hf_uri(url)
        snapshot = snapshot_download(
            parts.id, repo_type=parts.type, revision=parts.revision, local_files_only=True
        )
    except (FileNotFoundError, ValueError) as error:
        raise fault(
            f"{url}: the Hub's cache ({constants.HF_HUB_CACHE}) does not have it, and "
            f"HF_HUB_OFFLINE is set; fill the cache (hf download OWNER/NAME), or unset "
            f"HF_HUB_OFFLINE"
        ) from error
    return str(Path(snapshot, parts.path_in_repo))


def snapshot_of(folder: "Folder") -> str | None:
    """The address of the snapshot that a model's folder in the cache means.

    It is that of `main`, else the only one. None if there is neither. Raises WeightsError,
    StoreError.
    """
    if "snapshots" not in folder.names():
        return None
    commits = folder.child("snapshots").names()
    main = folder.read_text("refs/main").strip() if folder.has("refs/main") else ""
    if main not in commits and len(commits) == 1:
        main = commits[0]
    return f"{folder.url}/snapshots/{main}" if main in commits else None
