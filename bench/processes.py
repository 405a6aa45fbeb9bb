"""A peer's process, seen from the bench."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench import ROOT
from bench.peers.exchange import Batches, Curve, Rates, Run, Setup
from rgpipeline.runtime.allocator import SETTINGS


def environment() -> dict[str, str]:
    """A peer's environment variables: on the CPU, unless JAX_PLATFORMS is set.

    All peers keep freed memory, as the workers of `rgpipeline run` do.
    """
    return {"JAX_PLATFORMS": "cpu", **SETTINGS, **os.environ}


class PeerError(Exception):
    """A peer's process ended; its log says why."""


class Process:
    """One peer, loaded and ready for requests; use it as a context."""

    def __init__(
        self,
        module: str,
        model: Path,
        out: Path,
        python: str = sys.executable,
        cores: str = "",
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`cores`: the processor cores to use, like `0,1`; empty for all. `variables`: its own."""
        self._log = out / "logs" / f"{module.rsplit('.', 1)[-1]}{cores and f'-{cores}'}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [python, "-m", module, "--model", str(model), "--cache", str(out / "cache")]
        with self._log.open("w") as errors:
            self._process = subprocess.Popen(
                command + (["--cores", cores] if cores else []),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env={**environment(), **variables},
            )

    def __enter__(self) -> "Process":
        self._receive()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def try_step(self, setup: Setup) -> float:
        """See `exchange.Peer.try_step`."""
        self._send(do="try_step", setup=setup)
        step_s: float = self._receive()["step_s"]
        return step_s

    def measure(self, setup: Setup) -> Rates:
        """See `exchange.Peer.measure`."""
        self._send(do="measure", setup=setup)
        return Rates(**self._receive())

    def run(self, setup: Setup, batches: Batches, **options: Any) -> Run:
        """See `exchange.Peer.run`."""
        self.start_run(setup, batches, **options)
        return self.finish_run()

    def start_run(self, setup: Setup, batches: Batches, **options: Any) -> None:
        """Starts a run that `finish_run` waits for, so that several processes can run at once."""
        self._send(do="run", setup=setup, batches=batches, options=options)

    def finish_run(self) -> Run:
        """The result of the run that `start_run` started."""
        return Run(**self._receive())

    def curve(self, setup: Setup, prompt: int, lengths: list[int]) -> Curve:
        """See `exchange.Peer.curve`."""
        self._send(do="curve", setup=setup, prompt=prompt, lengths=lengths)
        return Curve(**self._receive())

    def _send(self, *, setup: Setup, **request: Any) -> None:
        assert self._process.stdin is not None
        message = json.dumps({**request, "setup": dataclasses.asdict(setup)})
        try:
            self._process.stdin.write(message + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failed()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failed(self) -> PeerError:
        last = self._log.read_text().strip().splitlines()[-1:]
        return PeerError(f"{self._log.stem}: {''.join(last) or 'ended'} (see {self._log})")


def first_token(model: Path, setup: Setup, cache: Path) -> dict[str, float]:
    """`seconds` of a new process of this engine to its first token, and its `peak_bytes`."""
    command = [sys.executable, "-m", "bench.peers.first_token", "--model", str(model)]
    command += ["--cache", str(cache), "--dtype", setup.dtype, "--slots", str(setup.batch)]
    command += ["--way", setup.way]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT, env=environment())
    measured: dict[str, float] = json.loads(done.stdout)
    return measured
