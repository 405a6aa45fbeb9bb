"""A process that races others: tells which of `count` names it was first to create.

Run as `python -m tests.storage.racer URL OPTIONS WHO COUNT`; starts at the line `go` on stdin.
"""

import json
import sys

from rgpipeline.storage.store import open_store


def main() -> None:
    url, options, who, count = sys.argv[1:]
    store = open_store(url, json.loads(options))
    store.list()  # connected
    print("ready", flush=True)
    sys.stdin.readline()
    names = [f"race/{number}" for number in range(int(count))]
    print(json.dumps([name for name in names if store.create(name, who.encode())]))


if __name__ == "__main__":
    main()
