"""Simulates a scenario from its seed to the end of its job."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

from rgpipeline.dispatch.driver_messages import (
    Command,
    DesiredWorkers,
    DrainWorker,
    Event,
    JobEnded,
    KillWorker,
    SetAssignments,
    StartWorker,
    StopRequested,
    Tick,
    WorkerDraining,
)
from rgpipeline.dispatch.state_machine import Dispatch
from rgpipeline.dispatch.work_queue import WorkQueue
from rgpipeline.io.committed_rows import CommittedRows
from rgpipeline.io.parts import parse_part_name
from rgpipeline.records import ShardDone
from rgpipeline.runtime.worker_pool import WorkerPool
from tests.simulator.hosts import Hosts
from tests.simulator.invariants import InvariantBroken, PublishedRows, check_commands, check_driver
from tests.simulator.scenario import Scenario, draw_scenario
from tests.simulator.store import decode_part, read_encoded_footer
from tests.simulator.transport import SimTransport
from tests.simulator.virtual_world import VirtualWorld

Print = Callable[[str], None]
_ROUND_S = 0.5  # of the driver's loop
_LIMIT_S = 4000.0  # after the last failure; by then all must be done
_REST_S = 60.0  # between a failed run and the next


def _nothing(line: str) -> None:
    pass


class SimDriver:
    """One driver: the real state machine and worker pool, over the simulated transport."""

    def __init__(
        self, scenario: Scenario, world: VirtualWorld, hosts: Hosts, print_line: Print
    ) -> None:
        self._print_line = print_line
        self._scenario = scenario
        self._world = world
        self._hosts = hosts
        self.actors = SimTransport(hosts, scenario, world)
        self.pool = WorkerPool(self.actors, world.clock)
        self.dispatch = Dispatch(_work_left(scenario, hosts), scenario.policy)
        self.end: JobEnded | None = None
        self.dead = False
        self._most_held = 2 + 2 * scenario.slots
        self._ticked = -1.0
        self._room = -1
        self._round()

    def stop(self) -> None:
        self._tell(StopRequested(self._world.now))

    def die(self) -> None:
        self.dead = True
        self.actors.die()

    def _round(self) -> None:
        if self.dead or self.end is not None:
            return
        now = self._world.now
        if self._hosts.room != self._room:
            self._room = self._hosts.room
            self._tell(DesiredWorkers(now, max(1, self._room)))
        for name in self.pool.on_nodes(self._hosts.leaving()):
            self._tell(WorkerDraining(now, name))
        if now - self._ticked >= 1.0:
            self._ticked = now
            self._tell(Tick(now))
        for event in self.pool.events(0.0):
            self._tell(event)
        check_driver(self.dispatch, self._scenario.shards, self._most_held)
        if self.end is not None:
            self.pool.kill_all()
        self._world.after(_ROUND_S, self._round)

    def _tell(self, event: Event) -> None:
        commands = self.dispatch.handle(event)
        if self._print_line is not _nothing and not isinstance(event, Tick):
            self._print_line(f"{self._world.now:8.2f}  {event}")
            for command in commands:
                self._print_line(f"          → {command}")
        check_commands(commands, len(self.dispatch.fleet) + self._room)
        for command in commands:
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case StartWorker(worker):
                self.pool.start(worker)
            case SetAssignments(worker, assignments):
                self.pool.set_assignments(worker, assignments)
            case DrainWorker(worker):
                self.pool.drain(worker)
            case KillWorker(worker):
                self.pool.kill(worker)
            case JobEnded():
                self.end = command


def _work_left(scenario: Scenario, hosts: Hosts) -> WorkQueue:
    """The work that a driver finds to be left when it begins."""
    finished, covered = [], {}
    for shard in scenario.shards:
        cover = CommittedRows()
        names = [name for name in hosts.objects if (parse_part_name(name) or ())[0] == shard.index]
        for name in names:
            cover.add(decode_part(name, hosts.objects[name]).entries)
        if cover.finished(shard.rows):
            finished.append(ShardDone(shard.index, shard.rows, cover.rows_failed))
        elif names:
            covered[shard.index] = cover.rows_finished
    return WorkQueue(scenario.shards, finished, covered, scenario.policy.failures_to_suspect)


class Simulation:
    """A scenario and its drivers, which are started again when they end too early."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = VirtualWorld(scenario.seed)
        self.published = PublishedRows(scenario.shards)
        self.hosts = Hosts(scenario, self.world, self.published)
        self.drivers: list[SimDriver] = []
        self.runs = 0
        self.print_line: Print = _nothing
        self.failures: list[str] = []

    def run(self) -> None:
        """Simulates to the end. Raises InvariantBroken when an invariant does not hold."""
        scenario, world = self.scenario, self.world
        self.hosts.begin_trouble()
        self._start_driver()
        if scenario.driver_dies_at:
            world.after(scenario.driver_dies_at, self._kill_driver)
        if scenario.second_driver_at:
            world.after(scenario.second_driver_at, self._start_driver)
        if scenario.stop_at:
            world.after(scenario.stop_at, self._stop)
        self._run_to_the_end()
        if scenario.part_removed:
            self._remove_a_part()
            self._run_to_the_end()

    def _run_to_the_end(self) -> None:
        limit = max(self.world.now, self.scenario.trouble_s) + _LIMIT_S
        while not self._over():
            self.world.pass_time(1.0)
            if self.world.now > limit:
                raise InvariantBroken(
                    f"not done by {self.world.now:.0f} s; missing {self.published.missing()[:9]}"
                )
        self._check_end()

    def _remove_a_part(self) -> None:
        """Removes a part, as a person does with a damaged one, and runs the job again."""
        name = self.world.random.choice(sorted(self.hosts.objects))
        self.print_line(f"{self.world.now:8.2f}  {name} is removed")
        del self.hosts.objects[name]
        self.published.remove(name)
        self.drivers.clear()
        self._start_driver()

    def _over(self) -> bool:
        """True when the job is finished; restarts the driver when all have ended without that."""
        if any(d.end is not None and d.end.outcome == "finished" for d in self.drivers):
            return all(d.end is not None or d.dead for d in self.drivers)
        if all(d.end is not None or d.dead for d in self.drivers):
            self.failures += [d.end.message for d in self.drivers if d.end and d.end.message]
            self.world.pass_time(_REST_S)
            self._start_driver()
        return False

    def _start_driver(self) -> None:
        self.runs += 1
        if self.runs > 12:
            raise InvariantBroken(
                f"{self.runs} runs did not bring it to an end: {self.failures[-1:]}"
            )
        self.drivers.append(SimDriver(self.scenario, self.world, self.hosts, self.print_line))

    def _kill_driver(self) -> None:
        for driver in self.drivers:
            if driver.end is None and not driver.dead:
                driver.die()

    def _stop(self) -> None:
        for driver in self.drivers:
            if driver.end is None and not driver.dead:
                driver.stop()

    def _check_end(self) -> None:
        missing = self.published.missing()
        if missing:
            raise InvariantBroken(f"said to be finished without {missing[:9]}")
        parts = len(self.hosts.objects)
        self.world.pass_time(120.0)  # zombies have their print_line, and the published theirs
        if len(self.hosts.objects) != parts and self.published.missing():
            raise InvariantBroken("zombies published something new")
        blameless = self.published.failed - self.scenario.poison
        if blameless and self.scenario.calm:
            raise InvariantBroken(f"rows {sorted(blameless)} were given up, and are no poison")

    def counts(self) -> Counter[str]:
        """How much has happened, by kind."""
        counts = Counter(self.hosts.counts)
        counts["drivers"] = len(self.drivers)
        counts["events"] = self.world.happened
        counts["rows"] = sum(shard.rows for shard in self.scenario.shards)
        counts["rows given up"] = len(self.published.failed)
        counts["parts"] = len(self.hosts.objects)
        counts["workers lost by fault"] = sum(d.dispatch.failures.deaths for d in self.drivers)
        return counts


@contextmanager
def encoded_parts() -> Iterator[None]:
    """Has the log read parts as the simulated store encodes them."""
    with mock.patch("rgpipeline.io.log.read_footer", read_encoded_footer):
        yield


def replay(seed: int) -> int:
    """Simulates a seed and prints every event and command; 1 if it fails."""
    simulation = Simulation(draw_scenario(seed))
    simulation.print_line = print
    print(simulation.scenario)
    try:
        with encoded_parts():
            simulation.run()
    except InvariantBroken as error:
        print(f"invariant broken: {error}")
        return 1
    print("finished")
    return 0


def simulate(seed: int) -> Simulation:
    """Simulates the scenario of a seed."""
    simulation = Simulation(draw_scenario(seed))
    with encoded_parts():
        simulation.run()
    return simulation
