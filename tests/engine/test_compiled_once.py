"""What an engine has compiled, later loops over it use."""

import jax
import numpy as np

from rgpipeline.engine.loop import Loop
from rgpipeline.records import Request
from rgpipeline.spec import Sampling
from tests.engine.reading import scores
from tests.engine.test_same_bytes import engine

COMPILED = "/jax/core/compile/backend_compile_duration"


def generate_and_score(loop: Loop) -> None:
    tokens = np.arange(2, 22, dtype=np.int32)
    sampling = Sampling(max_tokens=2, logit_bias={9: 1.0})  # needs more than a slot has at first
    loop.submit([Request(0, tokens, sampling, (0, 0))])
    while not loop.idle:
        loop.step()
    scores(loop, [tokens])


def test_a_second_loop_over_an_engine_compiles_no_state_or_buffer_anew() -> None:
    generate_and_score(Loop(engine("float32")))
    compiled: list[str] = []

    def listen(event: str, _: float, **names: object) -> None:
        if event == COMPILED:
            compiled.append(str(names.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        generate_and_score(Loop(engine("float32")))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)

    assert compiled == []
