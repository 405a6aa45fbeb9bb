"""Speed, side by side: this engine, the official sampler, Hugging Face, and the machine's limit.

`python -m bench --help`. Imports `rgpipeline`; nothing in `rgpipeline` imports this.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"  # results, models and logs; none of it is committed
