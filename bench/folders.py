"""Where the bench keeps what it makes; none of it is committed."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"
HF_ENVIRONMENT = OUT / "hf-venv"
