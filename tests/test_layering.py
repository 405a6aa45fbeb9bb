"""Imports only point down the layers; jax and ray stay where they belong; modules are small."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "rgpipeline"
LAYERS = {
    "addresses": 0,
    "errors": 0,
    "input_formats": 0,
    "events": 0,
    "read_texts": 0,
    "records": 0,
    "spec": 0,
    "wording": 0,
    "storage": 0.5,
    "io": 1,
    "model": 1,
    "text": 1,
    "engine": 2,
    "jobfile": 2,
    "tasks": 3,
    "dispatch": 4,
    "fit": 4,
    "generator": 4,
    "output": 4,
    "plan": 4,
    "report": 4,
    "validation": 4,
    "worker": 4,
    "runtime": 5,
    "cli": 6,
    "integrations": 6,
    "__main__": 6,
}
APART = {"io", "model", "text"}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> set[str]:
    names = (name.split(".") for name in imports(path))
    return {name[1] for name in names if name[0] == "rgpipeline" and len(name) > 1}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    here = part(path)
    for other in own_imports(path) & LAYERS.keys():
        assert other == here or LAYERS[other] <= LAYERS[here], f"{here} imports {other}"
        assert not (here in APART and other in APART and here != other), f"{here} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_jax_and_ray_stay_in_their_layers(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)}
    assert not used & {"jax", "flax"} or part(path) in {"model", "engine"}
    assert "ray" not in used or part(path) in {"runtime", "integrations"}


def test_one_module_imports_rays_private_ones() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), ".".join(parts))
        for path in MODULES
        for name in imports(path)
        if (parts := name.split("."))[0] == "ray" and any(part.startswith("_") for part in parts)
    }
    assert {path for path, _ in found} == {"runtime/ray_internals.py"}
    modules = {name for _, name in found if not name.rpartition(".")[2].startswith(("get", "may"))}
    assert modules == {
        "ray._common.utils",
        "ray._private",
        "ray._private.authentication.authentication_token_setup",
        "ray._private.services",
        "ray._private.state",
        "ray._private.worker",
    }


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


KNOWN = {module_name(path) for path in MODULES}


def executed_imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The modules of ours that run when a module is imported: not in functions, not for types."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in KNOWN else node.module or "" for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from executed_imports(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from executed_imports(ast.iter_child_nodes(node))


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        module_name(path): KNOWN.intersection(executed_imports(ast.parse(path.read_text()).body))
        for path in MODULES
    }
    assert sum(map(len, graph.values())) > len(graph)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_two_modules_have_the_same_name() -> None:
    names = Counter(path.name for path in MODULES if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    """Of functions, the body counts. A kernel is one program, so its functions may be longer."""
    text = path.read_text()
    assert len(text.splitlines()) <= 250
    most = 52 if "kernels" in path.parts else 40
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            has_docstring = ast.get_docstring(function) is not None
            body = function.body[1 if has_docstring and len(function.body) > 1 else 0 :]
            assert body[-1].end_lineno is not None
            assert body[-1].end_lineno - body[0].lineno < most, function.name


def test_every_module_has_a_layer() -> None:
    assert {part(path) for path in MODULES} <= LAYERS.keys()


@pytest.mark.parametrize("module", ["rgpipeline", "rgpipeline.cli", "rgpipeline.output"])
def test_a_command_that_needs_no_model_starts_without_jax_or_ray(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'jax', 'ray'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_validate_imports_neither_jax_nor_ray(tmp_path: Path) -> None:
    command = ["validate", str(ROOT.parent / "jobs" / "demo.yaml")]
    code = f"""
import sys
from rgpipeline.cli.app import call
print(call({command}), sorted({{"jax", "ray"}} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.endswith("valid: 320 rows in 1 file, 20 shards\n0 []\n"), done.stderr
