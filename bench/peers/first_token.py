"""Generates one token; prints the seconds since this process started, and its peak memory."""

import argparse
import json
import resource
import time
from pathlib import Path

import psutil

from bench.peers.exchange import Setup
from bench.peers.ours import Ours
from rgpipeline.engine.factory import use_compilation_cache


def main() -> None:
    """Loads the model as a worker does, and generates one token."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--cache", type=Path, required=True, help="folder for compiled programs")
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--way", default="", help="of this engine, see `ours`")
    arguments = parser.parse_args()
    use_compilation_cache(arguments.cache)
    peer = Ours(str(arguments.model))
    peer.first_token(Setup(arguments.dtype, arguments.slots, arguments.way))
    seconds = time.time() - psutil.Process().create_time()
    peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes}))


if __name__ == "__main__":
    main()
