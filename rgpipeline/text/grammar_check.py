"""Whether a grammar can be compiled, found out in a process of its own."""

import json
import signal
import subprocess
import sys
import weakref
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from rgpipeline.spec import StructuredOutputs
from rgpipeline.text.grammar_source import LIMITS, MAX_BYTES, grammar_source, one_line

_CHILD = Path(__file__).with_name("grammar_child.py")
_CPU_S = 5.0  # of computing; moderate schemas take a millisecond
_MEMORY = 3 << 30  # bytes of address space
_REMEMBERED = 4096  # verdicts

_ENDED_BY: dict[int, str] = {
    signal.SIGXCPU: f"it takes more than {_CPU_S:.0f} s to compile",
    signal.SIGSEGV: "it is nested too deeply",
    signal.SIGBUS: "it is nested too deeply",
    signal.SIGABRT: f"it takes more than {_MEMORY >> 30} GiB of memory to compile",
    signal.SIGKILL: "it takes too much memory to compile",
}


class GrammarCheck:
    """Compiles grammars in a child process, and remembers the verdicts. For any thread.

    The child starts with the first grammar, and again after one that it died of.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._verdicts: OrderedDict[StructuredOutputs, str] = OrderedDict()  # empty: it compiles

    def refusal(self, structured: StructuredOutputs | None) -> str | None:
        """Why a grammar can't be used, in llguidance's words; None if there is none, or it can."""
        if structured is None:
            return None
        with self._lock:
            fault = self._verdicts.get(structured)
            if fault is None:
                fault = self._tried(structured)
                self._verdicts[structured] = fault
                if len(self._verdicts) > _REMEMBERED:
                    self._verdicts.popitem(last=False)
        return refusal(structured, fault) if fault else None

    def close(self) -> None:
        """Ends the child."""
        with self._lock:
            if self._child is not None:
                _end(self._child)
                self._child = None

    def _tried(self, structured: StructuredOutputs) -> str:
        source = grammar_source(structured)
        if len(source) > MAX_BYTES:
            return f"it has {len(source):,} bytes; {MAX_BYTES:,} are the limit"
        child = self._child
        if child is None or child.poll() is not None:
            child = self._start()
        assert child.stdin is not None, "it is a pipe"
        assert child.stdout is not None, "it is a pipe"
        try:
            child.stdin.write(json.dumps(source).encode() + b"\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if answer:
            return one_line(json.loads(answer))
        self._child = None
        code = child.wait()
        reason = _ENDED_BY.get(-code) if code < 0 else None
        return reason or f"llguidance ended while it compiled it (exit status {code})"

    def _start(self) -> subprocess.Popen[bytes]:
        options = json.dumps({"cpu_s": _CPU_S, "memory": _MEMORY, "limits": LIMITS})
        child = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD), options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends the child
        )
        weakref.finalize(self, _end, child)
        self._child = child
        return child


def refusal(structured: StructuredOutputs, fault: str) -> str:
    """The error of a row or job whose grammar has this fault."""
    return f"structured_outputs.{structured.kind}: {fault}"


def _end(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
    child.kill()
    child.wait()
