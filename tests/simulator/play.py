"""One night from its seed to its end."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

from rgpipeline.assignments import ShardDone
from rgpipeline.dispatch import (
    Command,
    DesiredWorkers,
    Dispatch,
    DrainWorker,
    Event,
    JobEnded,
    KillWorker,
    SetAssignments,
    StartWorker,
    StopRequested,
    Tick,
    WorkerDraining,
    WorkQueue,
)
from rgpipeline.io.committed_rows import CommittedRows
from rgpipeline.io.parts import parse_part_name
from rgpipeline.runtime.worker_pool import WorkerPool
from tests.simulator.books import Books, Broken, check_commands, check_driver
from tests.simulator.hosts import Hosts, SimTransport
from tests.simulator.night import Night, draw_night
from tests.simulator.store import parse_part, read_spelled_footer
from tests.simulator.world import World

Say = Callable[[str], None]
_ROUND_S = 0.5  # of the driver's loop
_ENOUGH_S = 4000.0  # after the trouble's end; by then all must be done
_REST_S = 60.0  # between a failed run and the next


def _nothing(line: str) -> None:
    pass


class SimDriver:
    """One driver: the real machine and the real pool, over simulated actors."""

    def __init__(self, night: Night, world: World, hosts: Hosts, say: Say) -> None:
        self._say = say
        self._night = night
        self._world = world
        self._hosts = hosts
        self.actors = SimTransport(hosts, night, world)
        self.pool = WorkerPool(self.actors, world.clock)
        self.dispatch = Dispatch(_work_left(night, hosts), night.policy)
        self.end: JobEnded | None = None
        self.dead = False
        self._most_held = 2 + 2 * night.slots
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
        check_driver(self.dispatch, self._night.shards, self._most_held)
        if self.end is not None:
            self.pool.kill_all()
        self._world.after(_ROUND_S, self._round)

    def _tell(self, event: Event) -> None:
        commands = self.dispatch.handle(event)
        if self._say is not _nothing and not isinstance(event, Tick):
            self._say(f"{self._world.now:8.2f}  {event}")
            for command in commands:
                self._say(f"          → {command}")
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


def _work_left(night: Night, hosts: Hosts) -> WorkQueue:
    """What a driver reads from the log when it begins."""
    finished, covered = [], {}
    for shard in night.shards:
        cover = CommittedRows()
        names = [name for name in hosts.objects if (parse_part_name(name) or ())[0] == shard.index]
        for name in names:
            cover.add(parse_part(name, hosts.objects[name]).entries)
        if cover.finished(shard.rows):
            finished.append(ShardDone(shard.index, shard.rows, cover.rows_failed))
        elif names:
            covered[shard.index] = cover.rows_finished
    return WorkQueue(night.shards, finished, covered, night.policy.failures_to_suspect)


class Play:
    """A night, its drivers, and whoever starts them again."""

    def __init__(self, night: Night) -> None:
        self.night = night
        self.world = World(night.seed)
        self.books = Books(night.shards)
        self.hosts = Hosts(night, self.world, self.books)
        self.drivers: list[SimDriver] = []
        self.runs = 0
        self.say: Say = _nothing
        self.failures: list[str] = []

    def run(self) -> None:
        """Plays to the end. Raises Broken when something is that must never be."""
        night, world = self.night, self.world
        self.hosts.begin_trouble()
        self._start_driver()
        if night.driver_dies_at:
            world.after(night.driver_dies_at, self._kill_driver)
        if night.second_driver_at:
            world.after(night.second_driver_at, self._start_driver)
        if night.stop_at:
            world.after(night.stop_at, self._stop)
        self._play_to_the_end()
        if night.part_removed:
            self._remove_a_part()
            self._play_to_the_end()

    def _play_to_the_end(self) -> None:
        enough = max(self.world.now, self.night.trouble_s) + _ENOUGH_S
        while not self._over():
            self.world.pass_time(1.0)
            if self.world.now > enough:
                raise Broken(
                    f"not done by {self.world.now:.0f} s; missing {self.books.missing()[:9]}"
                )
        self._check_end()

    def _remove_a_part(self) -> None:
        """As a person does with a damaged one, who then runs the job again."""
        name = self.world.dice.choice(sorted(self.hosts.objects))
        self.say(f"{self.world.now:8.2f}  {name} is removed")
        del self.hosts.objects[name]
        self.books.removed(name)
        self.drivers.clear()
        self._start_driver()

    def _over(self) -> bool:
        """Restarts a driver that has ended otherwise than well; True when one has ended so."""
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
            raise Broken(f"{self.runs} runs did not bring it to an end: {self.failures[-1:]}")
        self.drivers.append(SimDriver(self.night, self.world, self.hosts, self.say))

    def _kill_driver(self) -> None:
        for driver in self.drivers:
            if driver.end is None and not driver.dead:
                driver.die()

    def _stop(self) -> None:
        for driver in self.drivers:
            if driver.end is None and not driver.dead:
                driver.stop()

    def _check_end(self) -> None:
        missing = self.books.missing()
        if missing:
            raise Broken(f"said to be finished without {missing[:9]}")
        parts = len(self.hosts.objects)
        self.world.pass_time(120.0)  # zombies have their say, and the books theirs
        if len(self.hosts.objects) != parts and self.books.missing():
            raise Broken("zombies published something new")
        blameless = self.books.failed - self.night.poison
        if blameless and self.night.calm:
            raise Broken(f"rows {sorted(blameless)} were given up, and are no poison")

    def counts(self) -> Counter[str]:
        """How much has happened, by kind."""
        counts = Counter(self.hosts.counts)
        counts["drivers"] = len(self.drivers)
        counts["events"] = self.world.happened
        counts["rows"] = sum(shard.rows for shard in self.night.shards)
        counts["rows given up"] = len(self.books.failed)
        counts["parts"] = len(self.hosts.objects)
        counts["workers lost by fault"] = sum(d.dispatch.failures.deaths for d in self.drivers)
        return counts


@contextmanager
def spelled_parts() -> Iterator[None]:
    """The log reads parts as the simulated store spells them."""
    with mock.patch("rgpipeline.io.log.read_footer", read_spelled_footer):
        yield


def replay(seed: int) -> int:
    """Plays a night with every event and command printed; 1 if it fails."""
    night = Play(draw_night(seed))
    night.say = print
    print(night.night)
    try:
        with spelled_parts():
            night.run()
    except Broken as error:
        print(f"broken: {error}")
        return 1
    print("finished")
    return 0


def play(seed: int) -> Play:
    """Plays the night of a seed."""
    night = Play(draw_night(seed))
    with spelled_parts():
        night.run()
    return night
