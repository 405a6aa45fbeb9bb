"""What a worker counts: decode's share of a step, and no speed of steps that compile."""

from rgpipeline.worker.worker_stats import WorkerStats


def test_a_step_without_prefill_is_all_decode():
    assert WorkerStats().step(0.5, prefills=0, decoded=True) == 0.5


def test_of_a_step_with_prefill_decode_has_its_usual_share():
    stats = WorkerStats()
    stats.step(0.5, prefills=0, decoded=True)
    assert stats.step(2.0, prefills=3, decoded=True) == 0.5
    assert (stats.details()["decode_s"], stats.details()["prefill_s"]) == (1.0, 1.5)


def test_the_first_steps_compile_and_tell_no_speed():
    stats = WorkerStats()
    assert stats.step(30.0, prefills=1, decoded=False) is None
    assert stats.step(20.0, prefills=0, decoded=False) is None
    assert stats.step(10.0, prefills=1, decoded=True) is None
    assert stats.step(0.5, prefills=0, decoded=True) == 0.5


def test_where_every_step_has_prefill_the_shortest_one_is_decodes_share():
    stats = WorkerStats()
    stats.step(0.5, prefills=1, decoded=True)
    assert stats.step(2.0, prefills=1, decoded=True) == 0.5


def test_tokens_of_no_known_speed_are_tokens_all_the_same():
    stats = WorkerStats()
    stats.emitted(8, position=100, seconds=None)
    stats.emitted(8, position=100, seconds=0.5)
    assert stats.completion_tokens == 16
    assert (stats.details()["position_6_tokens"], stats.details()["position_6_s"]) == (8, 0.5)
