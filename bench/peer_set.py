"""The peers of one run: each starts when first needed, and its rates are measured once."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import planning
from bench.environments import ENVIRONMENTS
from bench.model import model_folder
from bench.peers.exchange import Rates, Run, Setup
from bench.planning import Plan
from bench.processes import Process
from bench.workloads import Workload

OURS, OFFICIAL, HF, MLX = "ours", "official", "hf", "mlx"
PEERS = (OURS, OFFICIAL, HF, MLX)
LONGEST_S = 300.0
_IN_SLOTS = (OURS, MLX)
_WAYS = {HF: ("eager", "static", "compiled")}


@dataclass
class PeerSet:
    """Use it as a context, which ends all processes.

    `quick`: for a tiny model. `longest_s`: other peers don't run a workload that by their rates
    takes longer.
    """

    out: Path
    quick: bool = False
    names: tuple[str, ...] = PEERS
    repeat: int = 1
    batches: tuple[int, ...] = planning.BATCHES  # to try
    longest_s: float = LONGEST_S
    _open: dict[str, Process] = field(default_factory=dict)
    _rates: dict[str, dict[Setup, Rates]] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        missing = [peer for peer in self.names if peer in ENVIRONMENTS and not _python(peer)]
        for peer in missing:
            print(f"{peer}: its environment is missing; make bench-peers makes it")
        self.names = tuple(peer for peer in self.names if peer not in missing)

    def __enter__(self) -> "PeerSet":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def model(self) -> Path:
        """The folder of the model that all peers run."""
        return model_folder("tiny" if self.quick else "183m", self.out)

    def process(self, module: str) -> Process:
        """The process of `bench.peers.<module>`, loaded."""
        if module not in self._open:
            self._open[module] = self._stack.enter_context(self.another(module))
        return self._open[module]

    def another(self, module: str, cores: str = "") -> Process:
        """One more process of the same kind, on these cores only; the caller closes it."""
        peer = f"bench.peers.{module}"
        environment = ENVIRONMENTS.get(module)
        if environment is None:
            return Process(peer, self.model, self.out, cores=cores)
        return Process(
            peer, self.model, self.out, str(environment.python), cores, environment.variables
        )

    def rates(self, peer: str) -> dict[Setup, Rates]:
        """The rates of a peer's setups that may be the fastest, warmed up."""
        if peer not in self._rates:
            batches = planning.QUICK_BATCHES if self.quick else self.batches
            ways = _WAYS.get(peer, ("",))
            self._rates[peer] = planning.measure(self.process(peer), batches, ways)
            for setup, rates in self._rates[peer].items():
                print(
                    f"  {peer} {setup.way}{' ' if setup.way else ''}{setup.dtype} {setup.batch}: "
                    f"{rates.prefill_tokens_per_s:,.0f} tok/s prefill, "
                    f"{setup.batch / rates.step_s:,.0f} tok/s decode",
                    flush=True,
                )
        return self._rates[peer]

    def plan(self, peer: str, workload: Workload) -> Plan:
        """The peer's fastest way to do a workload."""
        kind = planning.in_slots if peer in _IN_SLOTS else planning.in_batches
        plan = kind(workload, self.rates(peer))
        # The official sampler compiles a program for each length of prompts.
        return planning.with_fewer_lengths(plan, self.rates(peer)) if peer == OFFICIAL else plan

    def run(
        self, peer: str, workload: Workload, process: Process | None = None, **options: bool
    ) -> tuple[Plan, Run]:
        """Runs the workload in the peer's fastest way; the fastest of `repeat` runs counts."""
        plan = self.plan(peer, workload)
        process = process or self.process(peer)
        lengths = {"prompt_lengths": plan.prompt_lengths} if plan.prompt_lengths else {}
        runs = [
            process.run(plan.setup, plan.batches, **lengths, **options) for _ in range(self.repeat)
        ]
        return plan, min(runs, key=lambda run: run.seconds)


def _python(peer: str) -> Path | None:
    return ENVIRONMENTS[peer].python
