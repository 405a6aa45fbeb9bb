"""Platforms: which one jax looks for, and what each is served with."""

import importlib.util
import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

# Which Pallas kernels may be used. plain: none, XLA does everything. tpu, gpu: those of that
# device, compiled. interpret: the TPU's, interpreted on any platform, for tests.
Kernels = Literal["plain", "tpu", "gpu", "interpret"]

_KERNELS: dict[str, Kernels] = {"tpu": "tpu", "gpu": "gpu", "cuda": "gpu"}

# libtpu opens /dev/accel0 (v2 to v4) or /dev/vfio/0 (v5e and later). /dev/vfio/vfio exists
# without a TPU too.
_TPU = ("accel[0-9]*", "vfio/[0-9]*")
_GPU = ("nvidia[0-9]*", "nvidiactl", "dxg", "kfd")


def kernels_for(platform: str) -> Kernels:
    """The kernels for a platform (`tpu`, `cpu`, `gpu` or `cuda`)."""
    return _KERNELS.get(platform, "plain")


def on_tpu(kernels: Kernels) -> bool:
    return kernels in ("tpu", "interpret")


def precision_of(dtype: DTypeLike) -> lax.Precision:
    """The precision of a product of such operands.

    For float32 it must be named: by default TPUs and GPUs use fewer bits.
    """
    return lax.Precision.HIGHEST if dtype == jnp.float32 else lax.Precision.DEFAULT


@cache
def has_avx2_only(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's CPU has AVX2 and not AVX-512; False where Linux doesn't say so."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return "avx2" in flags and "avx512f" not in flags


def skip_absent_tpu(devices: Path = Path("/dev")) -> None:
    """Keeps jax from starting libtpu on a machine without accelerators; call it before using jax.

    Where libtpu is installed, jax starts it to look for a TPU. Without one, libtpu writes errors to
    stderr, in every process that uses jax. A platform that was set (JAX_PLATFORMS, `jax.config`) is
    kept. So is jax's own choice where a GPU may be present, or where a plugin for another kind of
    device is installed.
    """
    configured = jax.config.jax_platforms  # type: ignore[attr-defined]
    if not configured and _only_cpus(devices, _plugins()):
        jax.config.update("jax_platforms", "cpu")  # type: ignore[no-untyped-call]


def _only_cpus(devices: Path, plugins: Iterable[str]) -> bool:
    present = any(True for pattern in (*_TPU, *_GPU) for _ in devices.glob(pattern))
    others = [name for name in plugins if "cuda" not in name and "rocm" not in name]
    return not present and not others


def _plugins() -> list[str]:
    """The names of jax's installed plugins, each for a kind of device."""
    named = [point.name for point in entry_points(group="jax_plugins")]
    package = importlib.util.find_spec("jax_plugins")
    folders = package.submodule_search_locations if package is not None else None
    return named + [module.name for module in pkgutil.iter_modules(folders or [])]
