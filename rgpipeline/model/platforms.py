"""Which platforms jax looks for: no TPU where there is none.

Where libtpu is installed, jax starts it to see whether there is a TPU. On a machine without one
libtpu then writes its complaints to stderr, in every process that uses jax.
"""

import importlib.util
import pkgutil
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

import jax

# libtpu opens /dev/accel0 (v2 to v4) or /dev/vfio/0 (v5e and later). /dev/vfio/vfio is there
# without a TPU too.
_TPU = ("accel[0-9]*", "vfio/[0-9]*")
_GPU = ("nvidia[0-9]*", "nvidiactl", "dxg", "kfd")


def skip_absent_tpu(devices: Path = Path("/dev")) -> None:
    """Keeps jax from starting libtpu on a machine without accelerators; call it before jax is used.

    A platform that somebody has chosen (JAX_PLATFORMS, `jax.config`) is kept. So is jax's own
    choice where a GPU may be there, or a plugin for another kind of device is installed.
    """
    chosen = jax.config.jax_platforms  # type: ignore[attr-defined]
    if not chosen and _only_cpus(devices, _plugins()):
        jax.config.update("jax_platforms", "cpu")  # type: ignore[no-untyped-call]


def _only_cpus(devices: Path, plugins: Iterable[str]) -> bool:
    present = any(True for pattern in (*_TPU, *_GPU) for _ in devices.glob(pattern))
    others = [name for name in plugins if "cuda" not in name and "rocm" not in name]
    return not present and not others


def _plugins() -> list[str]:
    """The names of jax's plugins that are installed, each for a kind of device."""
    named = [point.name for point in entry_points(group="jax_plugins")]
    package = importlib.util.find_spec("jax_plugins")
    folders = package.submodule_search_locations if package is not None else None
    return named + [module.name for module in pkgutil.iter_modules(folders or [])]
