"""Messages for folders that can't be loaded: what they hold, and what to do about it."""

from collections.abc import Iterable, Mapping, Sequence

from rgpipeline.storage.folders import Folder
from rgpipeline.storage.hub_cache import MODEL

_SHOWN = 4
_MOST_FAULTS = 40  # lines of one message; a wrong configuration makes hundreds
_LOOKED_INTO = 50  # subfolders
_MERGE = "merge it with PEFT (merge_and_unload(), then save_pretrained)"
_REMEDY = (
    "only float weights are read: save them without quantization (transformers: "
    "model.dequantize(), then save_pretrained); model.quantize: int8 quantizes them here"
)

# Names of tensors that show which tool quantized them.
_TOOLS = (
    ("bitsandbytes", (".absmax", ".SCB", ".quant_map", "__nf4", "__fp4", ".weight_format")),
    ("GPTQ or AWQ", (".qweight", ".qzeros", ".g_idx")),
    ("torchao", (".tensor_data",)),
)

# Parts of names that show how the model was saved.
_WRAPPERS = {
    "_orig_mod.": "torch.compile wraps the model: save model._orig_mod",
    "base_model.model.": f"PEFT wraps the model: {_MERGE}",
    "module.": "DataParallel wraps the model: save model.module",
}


def listed(title: str, faults: Sequence[str]) -> str:
    """One message of several faults, a line each; of very many, the first."""
    more = len(faults) - _MOST_FAULTS
    shown = [*faults[:_MOST_FAULTS], f"and {more} more"] if more > 0 else faults
    return "\n  ".join([title, *shown])


def quantized_config(quantization: Mapping[str, object]) -> str:
    """For a `config.json` with a `quantization_config`."""
    method = quantization.get("quant_method") or "an unnamed method"
    return f"quantization_config: the weights are quantized by {method}; {_REMEDY}"


def quantized_tensor(kind: object, names: Iterable[str]) -> str:
    """For a tensor that isn't float, by the names in its file; empty if they show no tool."""
    present = list(names)
    tool = next((tool for tool, ends in _TOOLS if any(n.endswith(ends) for n in present)), None)
    if tool is None and str(kind).startswith("F8"):
        tool = "an fp8 tool"
    return f": the weights are quantized by {tool}; {_REMEDY}" if tool else ""


def adapter(folder: Folder) -> str | None:
    """For a folder with an adapter in it that nobody named; else None."""
    names = folder.names()
    found = next(
        (n for n in ("adapter_config.json", "adapter_model.safetensors") if n in names), None
    )
    if found is None:
        return None
    if any(n.endswith(".safetensors") and not n.startswith("adapter_") for n in names):
        return (
            f"{folder.url}: an adapter ({found}) lies beside the model, and would change what it "
            f"says; give the folder as model.adapter, too, or take the adapter out of it"
        )
    return f"{folder.url}: an adapter ({found}) without its adapter_config.json; copy it again"


def no_model(folder: Folder) -> str:
    """For a folder that has neither a `config.json` nor an orbax checkpoint."""
    url, names = folder.url, sorted(folder.names())
    listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "nothing"
    message = (
        f"{url}: neither a Hugging Face folder (no config.json) nor an official Flax "
        f"checkpoint (no _METADATA); it holds {listed}"
    )
    if "snapshots" in names and "blobs" in names:
        return f"{message}. It is the Hub's cache of one model; give {_snapshots(folder)}"
    cached = [match for match in map(MODEL.fullmatch, names) if match]
    if cached:
        models = ", ".join(f"hf://{match[1]}/{match[2]}" for match in cached[:_SHOWN])
        first = folder.child(cached[0][0])
        return f"{message}. It is the Hub's cache; give {models}, or {_snapshots(first)}"
    gguf = next((name for name in names if name.endswith(".gguf")), None)
    if gguf is not None:
        return f"{message}. {gguf} is llama.cpp's format; take the model in safetensors"
    inside = [n for n in names[:_LOOKED_INTO] if "." not in n and folder.has(f"{n}/config.json")]
    if inside:
        return f"{message}. Do you mean {' or '.join(f'{url}/{n}' for n in inside[:_SHOWN])}?"
    return message


def _snapshots(cached: Folder) -> str:
    """The snapshots in the Hub's cache of one model."""
    if "snapshots" not in cached.names():
        return f"a folder in {cached.url}/snapshots"
    names = cached.child("snapshots").names()
    return " or ".join(f"{cached.url}/snapshots/{name}" for name in names[:_SHOWN])


def misnamed(present: Sequence[str], needed: Sequence[str]) -> list[str]:
    """For a checkpoint without any of the tensors that the model needs; one line each."""
    shown = ", ".join(sorted(present)[:_SHOWN]) or "nothing"
    lines = [
        f"none of the {len(needed)} tensors it needs is there, such as {needed[0]}",
        f"there are {len(present)}: {shown}{', …' if len(present) > _SHOWN else ''}",
    ]
    for prefix, advice in _WRAPPERS.items():
        if any(f".{prefix}" in f".{name}" for name in present):
            lines.append(f"names have {prefix} in them: {advice}")
    if any("lora_" in name for name in present):
        lines.append(f"lora_… are an adapter's: save it with PEFT's save_pretrained, or {_MERGE}")
    return lines
