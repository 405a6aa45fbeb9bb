"""KubeRay manifests against the schemas of its custom resources, unknown fields refused."""

import copy
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.cluster.closed import closed
from tests.cluster.files import RAY_CLUSTERS, RAY_JOBS, SCHEMAS, read

MANIFESTS = [pytest.param(path, id=path.stem) for path in RAY_JOBS + RAY_CLUSTERS]


@pytest.fixture(scope="module")
def validators():
    return {
        kind: Draft202012Validator(closed(json.loads((SCHEMAS / name).read_text())))
        for kind, name in (
            ("RayJob", "rayjobs.v1.schema.json"),
            ("RayCluster", "rayclusters.v1.schema.json"),
        )
    }


@pytest.mark.parametrize("path", MANIFESTS)
def test_manifest_is_valid(path: Path, validators):
    manifest = read(path)
    validators[manifest["kind"]].validate(manifest)


@pytest.mark.parametrize("path", MANIFESTS)
def test_manifest_is_of_the_version_that_the_schema_describes(path: Path):
    assert read(path)["apiVersion"] == "ray.io/v1"


@pytest.mark.parametrize(
    ("place", "key"),
    [
        (("spec",), "entrypont"),
        (("spec", "rayClusterSpec"), "enableInTreeAutoscalling"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0), "numOfHost"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec"), "nodeSelectors"),
        (
            ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0),
            "resource",
        ),
    ],
)
def test_misspelt_key_is_caught(place: tuple[str | int, ...], key: str, validators):
    manifest = copy.deepcopy(read(RAY_JOBS[0]))
    inner = manifest
    for step in place:
        inner = inner[step]
    inner[key] = {}
    with pytest.raises(ValidationError, match=f"'{key}' was unexpected"):
        validators["RayJob"].validate(manifest)


def test_wrong_type_is_caught(validators):
    manifest = copy.deepcopy(read(RAY_JOBS[0]))
    manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["numOfHosts"] = "four"
    with pytest.raises(ValidationError, match="not of type 'integer'"):
        validators["RayJob"].validate(manifest)
