"""Makes a separate environment for Hugging Face: `make bench-hf`."""

import subprocess
import venv
from pathlib import Path

from bench import OUT

HF_ENVIRONMENT = OUT / "hf-venv"
# The CPU build of torch, if the index has one; nothing here needs a GPU.
REQUIREMENTS = ("torch==2.13.0", "transformers==5.23.0", "safetensors>=0.5", "numpy>=2.0")


def hf_python() -> Path | None:
    """The environment's interpreter, or None if it was not made."""
    python = HF_ENVIRONMENT / "bin" / "python"
    return python if (HF_ENVIRONMENT / "ready").exists() else None


def main() -> None:
    """Makes it, in place of an older one."""
    venv.create(HF_ENVIRONMENT, clear=True, with_pip=True)
    python = str(HF_ENVIRONMENT / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    (HF_ENVIRONMENT / "ready").touch()


if __name__ == "__main__":
    main()
