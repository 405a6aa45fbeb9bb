"""Makes the separate environments of peers that are not this project's dependencies.

`make bench-peers`: one for Hugging Face, one for MLX. A peer without its environment is left out.
"""

import platform
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

from bench import OUT


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment below the bench's folder."""

    name: str
    requirements: tuple[str, ...]
    preload: str = ""  # library below the folder to load first, if it is there

    @property
    def folder(self) -> Path:
        """Where it is."""
        return OUT / f"{self.name}-venv"

    @property
    def python(self) -> Path | None:
        """Its interpreter, or None if the environment was not made."""
        return self.folder / "bin" / "python" if (self.folder / "ready").exists() else None

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables for its processes."""
        library = self.folder / self.preload
        return {"LD_PRELOAD": str(library)} if self.preload and library.exists() else {}

    def make(self) -> None:
        """Makes it, in place of an older one.

        Raises:
            subprocess.CalledProcessError: its packages could not be installed.
        """
        venv.create(self.folder, clear=True, with_pip=True)
        python = str(self.folder / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *self.requirements], check=True)
        (self.folder / "ready").touch()


# Transformers compiles this model from 5.23 on. The CPU build of torch, if the index has one.
HF_ENVIRONMENT = Environment(
    "hf", ("torch==2.13.0", "transformers==5.24.0", "safetensors>=0.5", "numpy>=2.0")
)

# The BLAS in MLX's own wheel is the reference implementation: 2 GFLOP/s a core. Intel's, loaded
# first, has the same functions: 40 GFLOP/s.
_MKL = ("mkl==2026.2.0",) if platform.machine() == "x86_64" else ()
MLX_ENVIRONMENT = Environment(
    "mlx", ("mlx[cpu]==0.32.4", "mlx-lm==0.32.2", "numpy>=2.0", *_MKL), "lib/libmkl_rt.so.3"
)

# By the module of the peer's process; `gemma` is Hugging Face's as well.
ENVIRONMENTS = {"hf": HF_ENVIRONMENT, "gemma": HF_ENVIRONMENT, "mlx": MLX_ENVIRONMENT}


def main() -> None:
    """Makes all of them."""
    for environment in (HF_ENVIRONMENT, MLX_ENVIRONMENT):
        environment.make()


if __name__ == "__main__":
    main()
