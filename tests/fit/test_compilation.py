"""Asking for a compilation that can't be had."""

import dataclasses
import importlib.util
from importlib.machinery import ModuleSpec

import pytest

from rgpipeline.errors import UserError
from rgpipeline.fit.compilation import CompileRequest, compile_programs
from rgpipeline.fit.topology import chip_of
from rgpipeline.spec import ModelSpec

REQUEST = CompileRequest(
    model=ModelSpec(weights="recurrentgemma-2b", dtype="bfloat16"),
    topology="v5e:1x1x1",
    slots=8,
    mesh=(1, 1),
    hbm_bytes=chip_of("v5e:1x1x1").hbm_bytes,
    engine={},
    storage_options={},
    programs=("insert",),
)


def test_a_missing_compiler_is_named_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", nowhere)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)

    with pytest.raises(UserError, match="pip install libtpu"):
        compile_programs(REQUEST)


def test_an_unknown_model_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UserError, match=r"recurrentgemma-9b; or give a checkpoint's folder"):
        compile_programs(dataclasses.replace(REQUEST, model=ModelSpec(weights="recurrentgemma-3b")))


def test_a_shape_that_no_machine_has_is_refused_with_the_compilers_reason() -> None:
    with pytest.raises(UserError, match=r"--topology v5e:3x5: the TPU compiler refuses it"):
        compile_programs(dataclasses.replace(REQUEST, topology="v5e:3x5", mesh=(15, 1)))
