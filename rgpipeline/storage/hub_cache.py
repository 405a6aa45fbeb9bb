"""The Hub's cache on a disk, which the Hub's own client fills.

~/.cache/huggingface/hub/models--OWNER--NAME/refs/main             a revision's commit
                                             /snapshots/COMMIT/…   its files, links into blobs/
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from rgpipeline.errors import UserError, WeightsError

if TYPE_CHECKING:
    from rgpipeline.storage.folders import Folder

_ADDRESS = re.compile(r"(hf://(?:models/)?[^/@]+/[^/@]+)(@[^/]+)?")
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


def offline_commit(url: str, fault: type[UserError]) -> str | None:
    """The commit that `hf://…` means in the cache; None, and errors, as `offline_path`."""
    path = offline_path(url, fault)
    return None if path is None else path.partition("/snapshots/")[2].partition("/")[0]


def at_commit(url: str, commit: str) -> str:
    """The address `hf://OWNER/NAME[@REVISION][/PATH]`, with the commit as its revision."""
    return _ADDRESS.sub(rf"\1@{commit}", url, count=1)


def commit_of(folder: "Folder", recorded: str | None = None) -> str | None:
    """The commit of the snapshot that a model's folder in the cache means.

    It is the recorded one, else that of `main`, else the only one; None if there is none of these.
    Raises WeightsError if the recorded one is gone, StoreError.
    """
    if "snapshots" not in folder.names():
        return None
    commits = folder.child("snapshots").names()
    if recorded is not None:
        if recorded not in commits:
            raise WeightsError(
                f"{folder.url}: the snapshot {recorded}, with which this job began, is gone; get "
                f"it again (hf download OWNER/NAME --revision {recorded}), or choose a new "
                f"output.path"
            )
        return recorded
    main = folder.read_text("refs/main").strip() if folder.has("refs/main") else ""
    if main not in commits and len(commits) == 1:
        main = commits[0]
    return main if main in commits else None
