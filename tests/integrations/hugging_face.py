"""What lm-evaluation-harness's Hugging Face back end says of the demo model, for test_lm_eval.

python -m tests.integrations.hugging_face > tests/integrations/hugging_face.json

It needs torch, accelerate and peft beside the tests' packages. `hugging_face.json` was made with
torch 2.13.0 (CPU, float32), transformers 5.24.0 and lm-eval 0.4.13. All requests stay within the
attention window, after which the two libraries differ.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from rgpipeline.storage.small_files import DEMO_FOLDER
from tests.model.golden import FOLDER
from tests.text.json_tokenizers import converted

MAX_LENGTH = 96
_VERSES = [row["verse"] for row in pq.read_table(f"{DEMO_FOLDER}/prompts.parquet").to_pylist()]
_STOPS = {"until": ["\n\n", ":"], "max_gen_toks": 24, "do_sample": False}

REQUESTS: dict[str, list[tuple[Any, ...]]] = {
    "loglikelihood": [
        *((verse[:60].rstrip(), verse[60:110]) for verse in _VERSES[:16] if len(verse) > 70),
        *((verse[:40] + " ", "the king") for verse in _VERSES[:4]),
        ("", "And God said"),
    ],
    "loglikelihood_rolling": [(verse[:160],) for verse in _VERSES[:8]],
    "generate_until": [(verse[:50].rstrip(), _STOPS) for verse in _VERSES[:6]],
}


def answers(lm: LM) -> dict[str, list[Any]]:
    """What a model answers to each kind of request."""
    return {
        kind: getattr(lm, kind)(
            [
                Instance(kind, {}, arguments, index, metadata=("task", index, 1))
                for index, arguments in enumerate(requests)
            ]
        )
        for kind, requests in REQUESTS.items()
    }


def main() -> None:
    """Writes Hugging Face's answers as JSON."""
    from lm_eval.models.huggingface import HFLM

    demo = Path(DEMO_FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(FOLDER / "saved" / "demo", folder, dirs_exist_ok=True)
        shutil.copy(demo / "model.safetensors", folder)
        tokenizer = converted((demo / "tokenizer.model").read_bytes())
        tokenizer.add_special_tokens(["<mask>"])
        tokenizer.save(f"{folder}/tokenizer.json")
        lm = HFLM(folder, dtype="float32", device="cpu", batch_size=1, max_length=MAX_LENGTH)
        found = answers(lm)
    kinds = (
        f' "{kind}": [\n  ' + ",\n  ".join(map(json.dumps, found[kind])) + "\n ]" for kind in found
    )
    sys.stdout.write("{\n" + ",\n".join(kinds) + "\n}\n")


if __name__ == "__main__":
    main()
