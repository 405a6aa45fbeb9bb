"""Which sequences are to be saved, and when the engine is asked for it."""

from collections.abc import Callable

from rgpipeline.records import SampleKey
from rgpipeline.worker.running_sample import RunningSample
from rgpipeline.worker.shared import WorkerPolicy


class SnapshotSchedule:
    """A sequence is saved after each segment, and when much work on it would be lost.

    Slots that began together reach their borders together; states are asked for few at a time,
    so that host memory doesn't hold them all at once.
    """

    def __init__(
        self, policy: WorkerPolicy, segment_tokens: int, request: Callable[[SampleKey], None]
    ) -> None:
        self._policy = policy
        self._worth = min(policy.snapshot_tokens, segment_tokens)
        self._request = request
        self._due: dict[SampleKey, None] = {}  # in order
        self._requested: set[SampleKey] = set()

    def consider(self, sample: RunningSample, now: float, cut: bool) -> None:
        """A sequence goes on; `cut`: a segment of it has just ended."""
        if sample.saved_at is None:
            sample.saved_at = now
        late = now - sample.saved_at >= self._policy.snapshot_s and self.worth(sample)
        if (cut or late) and sample.key not in self._requested:
            self._due[sample.key] = None

    def worth(self, sample: RunningSample) -> bool:
        """Whether what it gained since it was saved takes longer to generate than to load."""
        return sample.generated - sample.saved >= self._worth

    def request(self, saving: int) -> None:
        """Asks for states that are due, as many as may be on their way; `saving` wait already."""
        room = self._policy.snapshots_at_once - saving - len(self._requested)
        for key in list(self._due)[: max(0, room)]:
            del self._due[key]
            self._requested.add(key)
            self._request(key)

    def saved(self, sample: RunningSample, now: float) -> None:
        """Its state has been handed on."""
        self.forget(sample.key)
        sample.saved, sample.saved_at = sample.generated, now

    def forget(self, key: SampleKey) -> None:
        """The sequence has ended or was saved."""
        self._due.pop(key, None)
        self._requested.discard(key)
