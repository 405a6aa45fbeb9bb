"""Many threads, interruptions, forks and ends of one Generator."""

import gc
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from rgpipeline import Generator
from rgpipeline.errors import RowError, UserError
from tests.generator.conftest import load

SAMPLING = {"max_tokens": 24, "seed": 4, "ignore_eos": True}
PATIENCE_S = 300


def alone(generator: Generator, prompt: list[int]) -> str:
    (done,) = generator.generate([prompt], SAMPLING, ids=["0"])
    return done.text


def test_threads_get_what_they_would_get_alone(generator):
    prompts = [[1, index] for index in range(2, 10)]
    wanted = [alone(generator, prompt) for prompt in prompts]
    scores = generator.score(prompts)

    def work(index: int) -> object:
        prompt = prompts[index // 3]
        if index % 3 == 0:
            return alone(generator, prompt) == wanted[index // 3]
        if index % 3 == 1:
            return "".join(generator.stream(prompt, SAMPLING)) == wanted[index // 3]
        return np.array_equal(generator.score([prompt])[0], scores[index // 3])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(24), timeout=PATIENCE_S)) == [True] * 24
    assert generator._loop.opened().idle


def test_sequences_of_several_threads_share_the_slots(generator):
    stream = generator.stream([1, 2], {**SAMPLING, "max_tokens": 400})
    next(stream)
    occupied = generator._loop.opened().occupied
    with ThreadPoolExecutor(1) as pool:
        pool.submit(alone, generator, [1, 3]).result(PATIENCE_S)
    assert occupied == 1
    assert len("".join(stream)) > 24  # it went on meanwhile, and lost nothing
    assert generator._loop.opened().idle


def test_a_bad_prompt_of_one_thread_leaves_the_others_alone(generator):
    wanted = alone(generator, [1, 5])

    def work(index: int) -> object:
        if index % 2:
            with pytest.raises(RowError):
                generator.generate([[1], [999]])
            return wanted
        return alone(generator, [1, 5])

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work, range(8), timeout=PATIENCE_S)) == {wanted}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_step_that_is_broken_off_costs_only_its_own_call(generator, monkeypatch, error):
    wanted = "".join(generator.stream([1, 6], SAMPLING))
    stream = generator.stream([1, 6], SAMPLING)
    begun = next(stream)
    loop = generator._loop.opened()

    def broken() -> None:
        monkeypatch.undo()
        loop._decoder._state = None  # as after a call that took the state and returned none
        raise error

    monkeypatch.setattr(loop, "step", broken)
    with pytest.raises(error):
        generator.generate([[1, 2]], SAMPLING)
    assert begun + "".join(stream) == wanted
    assert alone(generator, [1, 6]) == wanted


def test_a_stream_collected_amid_a_step_frees_its_slot(generator, monkeypatch):
    loop = generator._loop.opened()
    streams = [generator.stream([1, 2], {**SAMPLING, "max_tokens": None})]
    next(streams[0])
    step = loop.step

    def collecting():
        if streams:
            streams.clear()
            gc.collect()
        return step()

    monkeypatch.setattr(loop, "step", collecting)
    assert alone(generator, [1, 3])
    generator.generate([[1, 3]], {"max_tokens": 1})
    assert loop.occupied == 0


def test_a_fork_is_told_to_load_its_own(generator):
    stream = generator.stream([1, 2], SAMPLING)
    next(stream)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = []
            for call in (lambda: generator.generate([[1]]), lambda: next(stream)):
                with pytest.raises(UserError) as caught:
                    call()
                told.append(str(caught.value))
            generator.close()
            os.write(writing, "\n".join(told).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        told = answers.read().splitlines()
    os.waitpid(child, 0)
    assert len(told) == 2
    assert all("can't be used after a fork" in one for one in told)
    stream.close()


def test_a_generator_is_not_pickled(generator):
    with pytest.raises(TypeError, match="load one in each process"):
        pickle.dumps(generator.generate)


def test_closing_frees_the_memory_and_is_told_afterwards():
    before = sum(array.nbytes for array in jax.live_arrays())
    with load() as generator:
        stream = generator.stream([1, 2], SAMPLING)
        next(stream)
        held = sum(array.nbytes for array in jax.live_arrays())
    gc.collect()
    assert held > before
    assert sum(array.nbytes for array in jax.live_arrays()) == before
    generator.close()
    for call in (
        lambda: next(stream),
        lambda: generator.generate([[1]]),
        lambda: generator.score([[1]]),
        generator.__enter__,
    ):
        with pytest.raises(UserError, match="the Generator is closed; load another one"):
            call()


def test_closing_ends_the_calls_of_other_threads():
    generator = load(slots=1)
    going = threading.Event()

    def endless() -> None:
        for _ in generator.stream([1, 2], {"max_tokens": None, "ignore_eos": True}):
            going.set()

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(endless)
        assert going.wait(PATIENCE_S)
        generator.close()
        with pytest.raises(UserError, match="closed"):
            call.result(PATIENCE_S)
