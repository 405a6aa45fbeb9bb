"""What holds for all tests: fixtures, examples, compiled programs, shape checks, parallel runs."""

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

pytest_plugins = ["tests.storage.servers"]

# The same examples each time, or a change is refused for what is no doing of its own; and no
# clocks, which tell how busy the machine is. `make fuzz` draws others.
NO_CLOCKS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **NO_CLOCKS)
settings.register_profile("others", print_blob=True, **NO_CLOCKS)
settings.load_profile("same")

# All processes of a session share their compiled programs, most of which are the same few; the
# workers that jobs start read this, too.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="rgp-programs-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# What is imported stays: no collection of garbage looks at it, now or later.
gc.disable()

# Ray's own 15 would leave its workers next to nothing beside processes that compute.
os.environ |= {"RAY_worker_niceness": "0"}

# Shapes and dtypes of the model's functions are checked wherever a test of this process calls them.
# The hook must precede every import of these modules.
CHECKED = (
    "griffin_state",
    "layers.attention",
    "layers.blocks",
    "layers.griffin",
    "layers.modules",
    "layers.rglru",
    "layers.rings",
    "ops.primitives",
)
install_import_hook([f"rgpipeline.model.{name}" for name in CHECKED], "beartype.beartype")

_ON_RAY = ("tests/chaos/", "tests/runtime/")
# What one process does: all on Ray, one cluster at a time; and files that share a model, whose
# programs would else be compiled in each process.
_SCOPES = {
    "ray": _ON_RAY,
    "generator": ("tests/generator/",),
    "engine": tuple(f"tests/engine/test_{name}" for name in ("masks", "same_bytes", "same_scores")),
}


@pytest.fixture(scope="module")
def compiled_fast() -> Iterator[None]:
    """For tests of what engines say up to rounding, or of what becomes of it."""
    from tests.model.running import engines_compiled_fast

    with engines_compiled_fast():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on Ray first: they mostly wait, and others compute beside them."""
    items.sort(key=lambda item: not item.nodeid.startswith(_ON_RAY))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under `-n`: a file's tests stay together, and those of files that belong together."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return next((name for name, files in _SCOPES.items() if file.startswith(files)), file)

    config.option.loadscopereorder = False  # in the order of collection
    return ByFile(config, log)
