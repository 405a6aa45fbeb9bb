"""When a sequence's state is saved."""

from collections.abc import Callable

from rgpipeline.records import SampleKey
from rgpipeline.worker.running_sample import RunningSample
from rgpipeline.worker.shared import WorkerPolicy


class SnapshotSchedule:
    """Requests a state after each segment, and when a death would lose too much work.

    Slots that began together end their segments together. Few states are requested at a time,
    because host memory can't hold those of all slots.
    """

    def __init__(
        self, policy: WorkerPolicy, segment_tokens: int, request: Callable[[SampleKey], None]
    ) -> None:
        self._policy = policy
        self._worth = min(policy.snapshot_tokens, segment_tokens)
        self._request = request
        self._due: dict[SampleKey, None] = {}  # oldest first
        self._requested: set[SampleKey] = set()

    def consider(self, sample: RunningSample, now: float, cut: bool) -> None:
        """Looks at a sample that has got tokens; `cut`: a segment of it has just ended."""
        if sample.saved_at is None:
            sample.saved_at = now
        late = now - sample.saved_at >= self._policy.snapshot_s and self.worth(sample)
        if (cut or late) and sample.may_be_saved and sample.key not in self._requested:
            self._due[sample.key] = None

    def worth(self, sample: RunningSample) -> bool:
        """Whether the tokens since the last save take longer to generate than a state to load."""
        return sample.generated - sample.saved >= self._worth

    def request(self, saving: int) -> None:
        """Requests the states that are due, within the limit; `saving` already wait to be saved."""
        room = self._policy.snapshots_at_once - saving - len(self._requested)
        for key in list(self._due)[: max(0, room)]:
            del self._due[key]
            self._requested.add(key)
            self._request(key)

    def saved(self, sample: RunningSample, now: float) -> None:
        """Notes that a sample's state went to the publisher."""
        self.forget(sample.key)
        sample.saved, sample.saved_at = sample.generated, now

    def forget(self, key: SampleKey) -> None:
        """Removes a sample that has ended or was saved."""
        self._due.pop(key, None)
        self._requested.discard(key)
