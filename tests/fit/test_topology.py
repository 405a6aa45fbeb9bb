"""Topologies by name."""

import pytest

from rgpipeline.errors import UserError
from rgpipeline.fit.estimate import FitRequest, fit
from rgpipeline.fit.topology import chip_of, chips_in
from rgpipeline.spec import ModelSpec


@pytest.mark.parametrize(
    ("topology", "chip", "count"),
    [("v5e:1x1x1", "v5e", 1), ("v5e:2x4", "v5e", 8), ("v6e:2x2", "v6e", 4)],
)
def test_a_topology_names_its_chip_and_their_number(topology: str, chip: str, count: int) -> None:
    assert (chip_of(topology).name, chips_in(topology)) == (chip, count)


@pytest.mark.parametrize("topology", ["v9:1x1", "v5e", "v5e:", "v5e:2by4", ""])
def test_an_unknown_topology_is_refused_with_an_example(topology: str) -> None:
    with pytest.raises(UserError, match="such as v5e:1x1x1"):
        chip_of(topology)


def test_several_hosts_are_not_one_worker() -> None:
    with pytest.raises(UserError, match=r"16 chips are several hosts'.* 8 at most"):
        chips_in("v5e:4x4")


def test_a_mesh_of_other_size_is_refused_before_anything_is_compiled() -> None:
    with pytest.raises(UserError, match=r"--mesh 2,1 is for 2 chips; v5e:2x2 has 4"):
        fit(FitRequest(ModelSpec(weights="recurrentgemma-2b"), "v5e:2x2", mesh=(2, 1)))
