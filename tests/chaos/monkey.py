"""Kills and hangs processes of a job at random, from a seed, until it is stopped."""

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Event, Thread

import psutil

from tests.storage.proxy import Fault, FaultyProxy
from tests.storage.seaweed import Seaweed

_FAULTS: tuple[Fault, ...] = ("lost request", "lost reply", "cut reply", "503", "500 after")


class Monkey:
    """Kills and hangs workers, drivers and the store of a job, again and again.

    `drive` starts another driver of the job; `drivers` are all that were started, in order.
    """

    def __init__(
        self,
        seed: int,
        folder: Path,
        store: Seaweed,
        proxy: FaultyProxy,
        drive: Callable[[], object],
        pause_s: float,
    ) -> None:
        self.done: Counter[str] = Counter()
        self.drivers: list[subprocess.Popen[bytes]] = []
        self._random = Random(seed)
        self._folder, self._store, self._proxy, self._drive = folder, store, proxy, drive
        self._pause_s = pause_s
        self._stop = Event()
        self._thread = Thread(target=self._run, name="monkey", daemon=True)
        self._error: BaseException | None = None

    def start(self) -> None:
        odds = Random(self._random.random())
        self._proxy.plan = lambda method, path: (
            odds.choice(_FAULTS) if odds.random() < 0.03 else "none"
        )
        self._thread.start()

    def stop(self) -> None:
        """Stops the disturbances; hung processes continue, and a killed store runs again."""
        self._stop.set()
        self._thread.join()
        self._proxy.plan = lambda method, path: "none"
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        tricks = {
            self._kill_worker: 8,
            self._hang_worker: 3,
            self._kill_driver: 2,
            self._hang_driver: 1,
            self._second_driver: 1,
            self._kill_store: 2,
            self._hang_store: 1,
        }
        try:
            while not self._stop.wait(self._pause_s * self._random.uniform(0.3, 1.7)):
                (trick,) = self._random.choices(list(tricks), list(tricks.values()))
                trick()
        except BaseException as error:
            self._error = error

    def _kill_worker(self) -> None:
        if worker := self._worker():
            with suppress(psutil.NoSuchProcess):
                worker.kill()
                self.done["worker killed"] += 1

    def _hang_worker(self) -> None:
        """For a moment, or until the driver kills it."""
        if worker := self._worker():
            with suppress(psutil.NoSuchProcess):
                worker.suspend()
                self.done["worker hung"] += 1
                if self._random.random() < 0.7:
                    self._stop.wait(self._random.uniform(0.5, 3.0))
                    worker.resume()

    def _kill_driver(self) -> None:
        if driver := self._driver():
            driver.kill()
            self.done["driver killed"] += 1

    def _hang_driver(self) -> None:
        if driver := self._driver():
            driver.send_signal(signal.SIGSTOP)
            self.done["driver hung"] += 1
            if self._random.random() < 0.5:
                self._drive()  # as a person may do who sees no progress
            self._stop.wait(self._random.uniform(0.5, 4.0))
            driver.send_signal(signal.SIGCONT)

    def _second_driver(self) -> None:
        if self._driver():
            self._drive()
            self.done["second driver"] += 1

    def _kill_store(self) -> None:
        self._store.kill()
        self.done["store killed"] += 1
        self._stop.wait(self._random.uniform(0.0, 3.0))
        self._store.start()

    def _hang_store(self) -> None:
        self._store.pause()
        self.done["store hung"] += 1
        self._stop.wait(self._random.uniform(0.5, 5.0))
        self._store.go_on()

    def _driver(self) -> subprocess.Popen[bytes] | None:
        running = [driver for driver in self.drivers if driver.poll() is None]
        return self._random.choice(running) if running else None

    def _worker(self) -> psutil.Process | None:
        """Some worker that is alive. The system may have given its id to another process."""
        alive = []
        for note in sorted(self._folder.glob("*.pid")):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(note.stem))
                ours = process.create_time() <= note.stat().st_mtime
                if ours and "ray::" in " ".join(process.cmdline()):
                    alive.append(process)
                    continue
            note.unlink()
        return self._random.choice(alive) if alive else None


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
