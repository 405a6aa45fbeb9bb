"""Names the machine and the libraries, for the results."""

import importlib.metadata
import os
import platform
from pathlib import Path

_TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
_LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "recurrentgemma", "ray")


def machine() -> dict[str, object]:
    """Processor, cores this process may use, what they can do, and versions."""
    model, flags = _processor()
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in _TELLING_FLAGS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _processor() -> tuple[str, set[str]]:
    text = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    fields = dict(part.partition(":")[::2] for part in text.splitlines())
    named = {key.strip(): value.strip() for key, value in fields.items()}
    model = named.get("model name", platform.processor())
    family = f"family {named.get('cpu family', '?')} model {named.get('model', '?')}"
    return f"{model} ({family})", set(named.get("flags", named.get("Features", "")).split())
