"""A round: a job is run undisturbed and disturbed, and the two outputs are compared."""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import ray

from rgpipeline.spec import Job
from tests.chaos.comparing import Comparison, compare
from tests.chaos.jobs import job_for, write_input
from tests.chaos.monkey import Monkey
from tests.storage.proxy import FaultyProxy, faulty_proxy
from tests.storage.seaweed import Seaweed, environment, seaweed
from tests.storage.servers import Place

ROOT = Path(__file__).parents[2]
_FINISHING_S = 240.0  # once the disturbances have ended


@dataclass(frozen=True)
class Round:
    """What happened in one round."""

    by_hand: bool
    seconds: float
    done: Counter[str]
    faults: Counter[str]
    ends: Counter[str]  # of drivers
    said: Counter[str]  # lines that drivers printed
    comparison: Comparison


@dataclass
class ChaosCluster:
    """What outlives a job: a Ray cluster, a store, and a proxy in front of it."""

    folder: Path
    store: Seaweed
    proxy: FaultyProxy
    address: str
    rounds: list[Round] = field(default_factory=list)

    def run_round(
        self, seed: int, by_hand: bool, rows: int, seconds: float, pause_s: float
    ) -> Round:
        """One round, disturbed for `seconds` at most and about every `pause_s`."""
        began = time.monotonic()
        name = f"{len(self.rounds)}-{seed}"
        folder = self.folder / name
        folder.mkdir()
        straight = Place(self.store.url(name), self.store.storage_options)
        through = replace(straight, storage_options={"s3": {"endpoint_url": self.proxy.endpoint}})
        write_input(straight.under("in"), rows, seed)
        undisturbed = job_for(by_hand, straight.under("in"), straight.under("undisturbed"), folder)
        self._finish(undisturbed, folder, by_hand)
        disturbed = job_for(by_hand, through.under("in"), through.under("disturbed"), folder)
        self.proxy.faults.clear()
        monkey = self._disturb(disturbed, folder, seed, by_hand, seconds, pause_s)
        result = Round(
            by_hand,
            time.monotonic() - began,
            monkey.done,
            Counter(self.proxy.faults),
            Counter(_ended(driver) for driver in monkey.drivers),
            Counter((folder / "drivers.log").read_text().splitlines()),
            compare(straight.under("undisturbed"), straight.under("disturbed")),
        )
        self.rounds.append(result)
        return result

    def _finish(self, job: Job, folder: Path, by_hand: bool) -> None:
        code = self._drive(job, folder, by_hand).wait(timeout=_FINISHING_S)
        assert code == 0, f"the undisturbed run ended with {code}"

    def _disturb(
        self, job: Job, folder: Path, seed: int, by_hand: bool, seconds: float, pause_s: float
    ) -> Monkey:
        """Runs it until it is finished, however often it is killed."""

        def drive() -> subprocess.Popen[bytes]:
            driver = self._drive(job, folder, by_hand)
            monkey.drivers.append(driver)
            return driver

        monkey = Monkey(seed, folder, self.store, self.proxy, drive, pause_s)
        deadline = time.monotonic() + seconds
        driver, disturbed = drive(), True
        monkey.start()
        try:
            while driver.poll() != 0:
                if disturbed and time.monotonic() > deadline:
                    monkey.stop()
                    disturbed = False
                assert time.monotonic() < deadline + _FINISHING_S, "it does not finish"
                if driver.poll() is not None:
                    assert driver.poll() != 2, "it took a fault for a user's mistake"
                    driver = drive()
                time.sleep(0.1)
        finally:
            if disturbed:
                monkey.stop()
        for other in monkey.drivers:  # they find that all is done
            assert other.wait(timeout=_FINISHING_S) != 2
        return monkey

    def _drive(self, job: Job, folder: Path, by_hand: bool) -> subprocess.Popen[bytes]:
        path = folder / f"{job.output.path.rpartition('/')[2]}.json"
        path.write_text(job.model_dump_json())
        how = "hand" if by_hand else "model"
        command = [sys.executable, "-m", "tests.chaos.driver", str(path), self.address]
        log = (folder / "drivers.log").open("ab")
        return subprocess.Popen([*command, str(folder), how], cwd=ROOT, stderr=log, stdout=log)


def _ended(driver: subprocess.Popen[bytes]) -> str:
    return "killed" if driver.returncode < 0 else f"exit {driver.returncode}"


@contextmanager
def ray_cluster() -> Iterator[str]:
    """Starts a small Ray cluster and stops it at the end; yields its address."""
    os.environ |= {**environment(), "RAY_health_check_period_ms": "500"}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=80 << 20,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
    )
    try:
        yield str(ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()


@contextmanager
def chaos_cluster() -> Iterator[ChaosCluster]:
    """Starts a cluster, a store and a proxy, and stops them at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name,
        seaweed(Path(name) / "store") as store,
        faulty_proxy(store.endpoint) as proxy,
        ray_cluster() as address,
    ):
        yield ChaosCluster(Path(name), store, proxy, address)
