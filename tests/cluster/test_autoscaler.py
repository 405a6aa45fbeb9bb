"""Ray autoscaler files: Ray's own validator, and Google's description of its two APIs."""

import copy
import json
from pathlib import Path

import pytest
from googleapiclient import discovery_cache
from jsonschema import Draft202012Validator, ValidationError
from ray.autoscaler._private.gcp.config import get_node_type
from ray.autoscaler._private.gcp.node import GCPNodeType
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.closed import from_discovery
from tests.cluster.files import AUTOSCALER, read

FILES = [pytest.param(path, id=path.stem) for path in AUTOSCALER]
TPU_FILES = [pytest.param(path, id=path.stem) for path in AUTOSCALER if "tpu" in path.stem]
APIS = {GCPNodeType.TPU: ("tpu.v2alpha1", "Node"), GCPNodeType.COMPUTE: ("compute.v1", "Instance")}


@pytest.fixture(scope="module")
def apis():
    folder = Path(discovery_cache.__file__).parent / "documents"
    return {
        kind: Draft202012Validator(
            from_discovery(json.loads((folder / f"{api}.json").read_text()), message)
        )
        for kind, (api, message) in APIS.items()
    }


def sent(node: dict) -> dict:
    """A node_config as Ray sends it: a TPU has one service account, with `scope` (node.py)."""
    node = copy.deepcopy(node)
    if get_node_type(node) == GCPNodeType.TPU:
        account = node.pop("serviceAccounts")[0]
        node["serviceAccount"] = {"email": account["email"], "scope": account["scopes"]}
    return node


def test_every_kind_of_cluster_is_there():
    names = {path.stem for path in AUTOSCALER}
    assert names == {"cpu", "tpu-v5e-8", "tpu-v5e-8-spot", "tpu-v6e-8", "tpu-v6e-8-spot"}


@pytest.mark.parametrize("path", FILES)
def test_ray_accepts_the_file(path: Path):
    validate_config(prepare_config(read(path)))


def test_misspelt_key_is_refused_by_ray():
    config = read(AUTOSCALER[0])
    config["idle_timeout_minute"] = config.pop("idle_timeout_minutes")
    with pytest.raises(ValidationError, match="idle_timeout_minute"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("path", FILES)
def test_google_knows_every_field_of_a_node(path: Path, apis):
    for kind in read(path)["available_node_types"].values():
        node = kind["node_config"]
        apis[get_node_type(node)].validate(sent(node))


@pytest.mark.parametrize("path", FILES)
def test_misspelt_key_of_a_node_is_caught(path: Path, apis):
    for kind in read(path)["available_node_types"].values():
        node = kind["node_config"] | {"schedulingConfigs": {}}
        with pytest.raises(ValidationError, match="'schedulingConfigs' was unexpected"):
            apis[get_node_type(node)].validate(sent(node))


@pytest.mark.parametrize("path", TPU_FILES)
def test_tpu_hosts_are_single_hosts_of_eight_chips(path: Path):
    workers = read(path)["available_node_types"]["tpu"]
    assert get_node_type(workers["node_config"]) == GCPNodeType.TPU
    assert workers["node_config"]["acceleratorType"] in {"v5litepod-8", "v6e-8"}
    assert workers["resources"]["TPU"] == 8


@pytest.mark.parametrize("path", TPU_FILES)
def test_software_and_resource_names_are_the_generations(path: Path):
    workers = read(path)["available_node_types"]["tpu"]
    node = workers["node_config"]
    software = {"v5litepod-8": "v2-alpha-tpuv5-lite", "v6e-8": "v2-alpha-tpuv6e"}
    assert node["runtimeVersion"] == software[node["acceleratorType"]]
    generation = node["acceleratorType"].split("-")[0].upper()
    assert workers["resources"][f"accelerator_type:TPU-{generation}"] == 1


@pytest.mark.parametrize("path", TPU_FILES)
def test_only_the_spot_files_ask_for_spot(path: Path):
    node = read(path)["available_node_types"]["tpu"]["node_config"]
    assert node.get("schedulingConfig", {}).get("spot", False) == path.stem.endswith("-spot")


@pytest.mark.parametrize("path", FILES)
def test_no_worker_lands_on_the_head(path: Path):
    config = read(path)
    assert config["available_node_types"][config["head_node_type"]]["resources"] == {"CPU": 0}


@pytest.mark.parametrize("path", FILES)
def test_dashboard_is_not_open_to_the_world(path: Path):
    assert "--dashboard-host=127.0.0.1" in read(path)["head_start_ray_commands"][-1]


@pytest.mark.parametrize("path", FILES)
def test_nothing_is_left_to_pay_for(path: Path):
    assert read(path)["provider"]["cache_stopped_nodes"] is False
