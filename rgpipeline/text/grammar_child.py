"""A process that compiles grammars from strangers, so that only it dies of them.

llguidance bounds most of what a grammar may cost. But some schemas nest so deeply that the stack
overflows, and the intersection of some patterns takes exponential time and memory. Run as a script:

    python -P grammar_child.py '{"cpu_s": 5, "memory": 2147483648, "limits": {…}}'

Reads a line with a grammar as a JSON string, and answers by a line with the reason why it can't be
compiled, as a JSON string that is empty if it can. Imports nothing of ours.
"""

import json
import math
import resource
import sys
import threading
import time
from typing import Any

from llguidance import LLMatcher, LLParserLimits

# What compiles within this stack compiles in any thread of a worker.
_STACK_BYTES = 4 << 20


def main() -> None:
    """Answers until standard input ends."""
    options = json.loads(sys.argv[1])
    limits = LLParserLimits(verbose_errors=False, **options["limits"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (options["memory"], options["memory"]))
    threading.stack_size(_STACK_BYTES)
    for line in sys.stdin.buffer:
        _limit_time(options["cpu_s"])
        found: list[str] = []
        thread = threading.Thread(target=_compile, args=(json.loads(line), limits, found))
        thread.start()
        thread.join()
        sys.stdout.write(json.dumps(found[0]) + "\n")
        sys.stdout.flush()


def _limit_time(seconds: float) -> None:
    """The kernel ends the process after so many more seconds of computing (SIGXCPU)."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds), most))


def _compile(source: str, limits: Any, found: list[str]) -> None:
    try:
        found.append(LLMatcher.validate_grammar(source, None, limits=limits))
    except (ValueError, MemoryError) as error:
        found.append(str(error) or type(error).__name__)


if __name__ == "__main__":
    main()
