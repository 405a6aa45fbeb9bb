"""A job's output folder, opened once for a command."""

from dataclasses import dataclass
from functools import cached_property

from rgpipeline.errors import OutputError
from rgpipeline.io.parts import PartFooter, part_names, read_footer, read_footers
from rgpipeline.output.control_files import SUCCESS, Heartbeat, read_heartbeat
from rgpipeline.plan import Plan
from rgpipeline.plan.plan_files import PLAN, WITHOUT_JOB, read_job, read_plan
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.store import RetryingStore, open_store


@dataclass(frozen=True)
class JobFolder:
    """An output folder with its job and plan, and what is read of it, each thing once.

    The parts are listed, and footers and heartbeat read, when first used. So everything that a
    command shows is of one moment; `reread` gives the folder as it is later.
    """

    store: RetryingStore
    job: Job
    plan: Plan
    options: StorageOptions | None = None

    @classmethod
    def open(cls, url: str, options: StorageOptions | None = None) -> "JobFolder":
        """Opens the folder at `url`.

        Raises OutputError when it is no job's output, StoreError within seconds when the store
        doesn't answer.
        """
        check_reachable([url], options)
        store = open_store(url, options)
        job, plan = read_job(store), read_plan(store)
        if job is None or plan is None:
            if part_names(store):
                raise OutputError(f"{store.url()}: {WITHOUT_JOB}")
            raise OutputError(f"{store.url()}: not the output of a job (there is no {PLAN})")
        return cls(store, job, plan, options)

    def reread(self) -> "JobFolder":
        """The same folder without what was read of its parts and heartbeat."""
        return JobFolder(self.store, self.job, self.plan, self.options)

    @cached_property
    def part_names(self) -> list[str]:
        """The names of all parts, by shard and part."""
        return part_names(self.store)

    @cached_property
    def footers(self) -> dict[str, PartFooter]:
        """The footers of all parts, by name, in order; without parts that were removed meanwhile.

        Raises OutputError for a part that is damaged or another job's.
        """
        return read_footers(self.store, self.part_names, self.plan.fingerprint)

    def footer(self, name: str) -> PartFooter:
        """One part's footer, read alone unless `footers` has it; raises as `read_footer`."""
        known: dict[str, PartFooter] = self.__dict__.get("footers", {})
        return known.get(name) or read_footer(self.store, name, self.plan.fingerprint)

    @cached_property
    def heartbeat(self) -> Heartbeat | None:
        """The driver's latest heartbeat, see `read_heartbeat`."""
        return read_heartbeat(self.store)

    @cached_property
    def marked_finished(self) -> bool:
        """Whether `_SUCCESS` is there."""
        return self.store.exists(SUCCESS)
