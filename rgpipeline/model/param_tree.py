"""Trees of parameters as nested dicts, and arrays on the host. Imports no jax."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Params: TypeAlias = dict[str, Any]
ParamPath: TypeAlias = tuple[str, ...]  # of a parameter in the tree
HostArray: TypeAlias = NDArray[np.generic]


def flatten(tree: Params, above: ParamPath = ()) -> dict[ParamPath, Any]:
    """Every leaf of a nested dict by its path, in the tree's order."""
    flat: dict[ParamPath, Any] = {}
    for key, branch in tree.items():
        path = (*above, key)
        flat.update(flatten(branch, path) if isinstance(branch, dict) else {path: branch})
    return flat


def nest(flat: dict[ParamPath, Any]) -> Params:
    """The tree with these leaves at these paths; the inverse of `flatten`."""
    tree: Params = {}
    for path, leaf in flat.items():
        branch = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        branch[path[-1]] = leaf
    return tree
