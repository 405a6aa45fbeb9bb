"""Where a model is read from: the folders that a `model:` section means.

    weights: CHECKPOINT                      the checkpoint alone
    weights: CHECKPOINT, adapter: ADAPTER    the adapter is merged into it
    weights: ADAPTER                         the same; `base`, or the adapter itself, names the base

Which of the three it is, is asked once. All who read the model take the answer.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from rgpipeline.addresses import DEMO, DEMO_FOLDER
from rgpipeline.errors import NoFolderError, WeightsError
from rgpipeline.model.weights import orbax_folders
from rgpipeline.model.weights.adapter_config import CONFIG
from rgpipeline.spec import Job, ModelSpec
from rgpipeline.storage import hub_cache
from rgpipeline.storage.filesystems import StorageOptions, protocol_of, resolve_options
from rgpipeline.storage.folders import Folder

_TOKENIZERS = ("tokenizer.model", "tokenizer.json")
_HUB_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A `model:` section, and the addresses that it means.

    Attributes:
        spec: The section.
        weights: The checkpoint's folder: the one that is given, or the base of a given adapter.
        adapter: The folder of the adapter to merge into it, or None.
        tokenizer: The tokenizer's file or folder.
        options: fsspec's options by protocol, with secrets filled in.
        snapshots: The commits of what is in the Hub's cache on a disk, by the section's keys.
    """

    spec: ModelSpec
    weights: str
    adapter: str | None
    tokenizer: str
    options: StorageOptions = field(default_factory=dict, repr=False)
    snapshots: Mapping[str, str] = field(default_factory=dict)

    def weights_folder(self) -> Folder:
        """The checkpoint's folder, listed now. Raises WeightsError, StoreError."""
        return _folder(self.weights, self.options)

    def adapter_folder(self) -> Folder | None:
        """The adapter's folder, listed now; None without one. Raises WeightsError, StoreError."""
        return None if self.adapter is None else Folder(self.adapter, self.options)

    def in_dtype(self, dtype: Literal["float32", "bfloat16"]) -> "ModelSource":
        """The same model in this dtype."""
        return replace(self, spec=self.spec.model_copy(update={"dtype": dtype}))


def resolve_source(
    model: ModelSpec,
    options: StorageOptions | None = None,
    snapshots: Mapping[str, str] | None = None,
) -> ModelSource:
    """The addresses that a `model:` section means.

    Lists the weights' folder, and reads no more than an `adapter_config.json` in it. A folder that
    does not exist is reported by whoever opens it. Instead of a model's folder of the Hub's cache,
    the section has the folder of its snapshot: the one in `snapshots` (commits, by the section's
    keys), else that of `main`.

    Raises:
        WeightsError: Its keys contradict each other, nothing says what the adapter's base is, or
            the cache has lost one of the snapshots.
        StoreError: A remote store failed again and again.
    """
    model, found = _with_snapshots(model, options, snapshots or {})
    folder = _listed(model.weights, options)
    is_adapter = folder is not None and _is_adapter(folder.names())
    if model.adapter is not None:
        _refuse_beside_an_adapter(model, is_adapter)
    elif folder is not None and is_adapter:
        base = model.base or _named_base(folder)
        tokenizer = model.tokenizer or (model.weights if _has_tokenizer(folder) else base)
        return ModelSource(model, base, model.weights, tokenizer, options or {}, found)
    elif model.base is not None:
        raise WeightsError(
            f"model.base {model.base}: is for an adapter, and {model.weights} is none"
        )
    tokenizer = model.tokenizer or (folder and _official_tokenizer(folder)) or model.weights
    return ModelSource(model, model.weights, model.adapter, tokenizer, options or {}, found)


def source_of(job: Job, snapshots: Mapping[str, str] | None = None) -> ModelSource:
    """`resolve_source` of a job's `model:` section, with the secrets of its options filled in."""
    return resolve_source(job.model, resolve_options(job.storage_options), snapshots)


def with_base(model: ModelSpec) -> ModelSpec:
    """With the base named, if the weights are an adapter on this machine.

    Its own configuration may give a path relative to this process's working directory. Raises
    WeightsError.
    """
    if model.adapter is not None or model.base is not None or protocol_of(model.weights) != "file":
        return model
    source = resolve_source(model)
    if source.adapter is None:
        return model
    return model.model_copy(update={"base": source.weights})


def _with_snapshots(
    model: ModelSpec, options: StorageOptions | None, recorded: Mapping[str, str]
) -> tuple[ModelSpec, dict[str, str]]:
    """With the snapshots that addresses in the Hub's cache mean; and their commits, by key."""
    urls: dict[str, str] = {}
    commits: dict[str, str] = {}
    for name in ("weights", "adapter", "base", "tokenizer"):
        if (url := getattr(model, name)) is not None:
            found = _snapshot(url, options, recorded.get(name))
            if found is not None:
                urls[name], commits[name] = found
    return (model.model_copy(update=urls) if urls else model), commits


def _snapshot(
    url: str, options: StorageOptions | None, recorded: str | None
) -> tuple[str, str] | None:
    """The address of the snapshot that `url` means, and its commit; None outside the cache."""
    if protocol_of(url) == "hf":
        with suppress(ImportError):  # which is reported by whoever opens it
            commit = recorded or hub_cache.offline_commit(url, WeightsError)
            return None if commit is None else (hub_cache.at_commit(url, commit), commit)
        return None
    if not hub_cache.MODEL.fullmatch(url.rstrip("/").rpartition("/")[2]):
        return None
    if (folder := _listed(url, options)) is None:
        return None
    commit = hub_cache.commit_of(folder, recorded)
    return None if commit is None else (f"{folder.url}/snapshots/{commit}", commit)


def _listed(url: str, options: StorageOptions | None) -> Folder | None:
    """The folder; None if there is none."""
    try:
        return _folder(url, options)
    except NoFolderError:
        return None


def _is_adapter(names: Sequence[str]) -> bool:
    """Whether a folder of these files is an adapter's, without a model."""
    model = any(n.endswith(".safetensors") and not n.startswith("adapter_") for n in names)
    return CONFIG in names and not (model and "config.json" in names)


def _has_tokenizer(folder: Folder) -> bool:
    return any(name in folder.names() for name in _TOKENIZERS)


def _official_tokenizer(folder: Folder) -> str | None:
    """The folder of an official checkpoint's tokenizer, if it is not the one that was given."""
    found = None if _has_tokenizer(folder) else orbax_folders.find(folder)
    if found is None:
        return None
    for home in found.homes():
        if any(found.folder.has(home + name) for name in _TOKENIZERS):
            return found.folder.address(home)
    return None


def _folder(url: str, options: StorageOptions | None) -> Folder:
    return Folder(DEMO_FOLDER if url == DEMO else url, options)


def _refuse_beside_an_adapter(model: ModelSpec, weights_are_adapter: bool) -> None:
    if model.base is not None:
        raise WeightsError(
            f"model.base {model.base}: beside model.adapter, the weights are the base; remove it"
        )
    if weights_are_adapter:
        raise WeightsError(
            f"{model.weights}: an adapter itself; beside model.adapter, give its base's folder"
        )


def _named_base(adapter: Folder) -> str:
    """The address of the adapter's `base_model_name_or_path`."""
    where, fields = f"{adapter.url}/{CONFIG}", adapter.read_json(CONFIG)
    name, revision = fields.get("base_model_name_or_path"), fields.get("revision")
    if not isinstance(name, str) or not name:
        raise WeightsError(f"{where}: names no base; give its folder as model.base")
    if "://" in name or Path(name).expanduser().is_dir():
        return name if "://" in name else str(Path(name).expanduser().absolute())
    if _HUB_NAME.fullmatch(name):
        return f"hf://{name}@{quote(revision, '')}" if isinstance(revision, str) else f"hf://{name}"
    raise WeightsError(
        f"{where}: its base {name!r} is neither a folder here nor a name of the Hub; give the "
        f"base's folder as model.base"
    )
