"""What tells one model from another: states of one must not be taken up by the other."""

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.param_tree import HostArray, ParamPath

_SAMPLES = 1024  # numbers of a parameter that are looked at; all would take seconds


@dataclass
class Fingerprint:
    """Gathers a sample of every parameter, as the host has it: the same on every device."""

    _parts: dict[ParamPath, str] = field(default_factory=dict)

    def add(self, path: ParamPath, value: HostArray) -> None:
        """Adds a parameter, in any order."""
        numbers: np.ndarray[Any, Any] = value.reshape(-1)
        sample = np.ascontiguousarray(numbers[:: max(1, -(-len(numbers) // _SAMPLES))])
        digest = hashlib.sha256(f"{value.dtype} {value.shape}".encode())
        digest.update(sample.view(np.uint8).data)
        self._parts[path] = digest.hexdigest()

    def digest(self, config: GriffinConfig) -> str:
        """16 hexadecimal digits for the parameters so far, and the configuration."""
        whole = repr((sorted(asdict(config).items()), sorted(self._parts.items())))
        return hashlib.sha256(whole.encode()).hexdigest()[:16]
