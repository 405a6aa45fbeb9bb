"""Generates one token and prints the seconds since this process started."""

import argparse
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
    arguments = parser.parse_args()
    use_compilation_cache(arguments.cache)
    peer = Ours(str(arguments.model))
    peer.first_token(Setup(arguments.dtype, arguments.slots))
    print(time.time() - psutil.Process().create_time())


if __name__ == "__main__":
    main()
