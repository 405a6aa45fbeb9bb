"""What an engine says it is doing: weights by what is in place, programs by jax's own events."""

from pathlib import Path

import jax
import jax.numpy as jnp

from rgpipeline.engine.activity import Activity
from rgpipeline.engine.factory import open_engine, report_compilations
from rgpipeline.spec import EngineSpec
from tests.sources import source

HF = str(Path(__file__).parent.parent / "golden" / "a" / "hf")


def test_weights_are_told_as_they_are_read():
    told: list[str] = []
    activity = Activity(told.append)
    open_engine(source(HF), EngineSpec(slots=1), activity=activity)
    reading = [text for text in told if text.startswith("reading weights")]
    assert told[0] == f"opening {HF}"
    assert reading[0].startswith("reading weights, 0 B of ")
    done, total = reading[-1].removeprefix("reading weights, ").split(" of ")
    assert done == total
    assert activity.text == ""


def test_a_program_is_told_from_the_beginning_of_its_compilation_to_its_end():
    told: list[str] = []
    activity = Activity(told.append)

    def never_seen_before(x: jax.Array) -> jax.Array:
        return x * 3 + 1

    jax.monitoring.register_event_duration_secs_listener(activity.record_jax_event)
    try:
        jax.jit(never_seen_before)(jnp.ones(7))
    finally:
        jax.monitoring.unregister_event_duration_listener(activity.record_jax_event)
    assert "compiling never_seen_before" in told
    assert activity.text == ""


def test_reading_goes_on_after_a_program_that_it_needs():
    told: list[str] = []
    activity = Activity(told.append)
    activity.reading(2_000_000_000)
    activity.record_jax_event(
        "/jax/core/compile/jaxpr_to_mlir_module_duration", 0.1, fun_name="jit(copy)"
    )
    activity.record_jax_event(
        "/jax/core/compile/backend_compile_duration", 0.1, fun_name="jit(copy)"
    )
    activity.add_read(500_000_000)
    assert told == [
        "reading weights, 0 B of 2.0 GB",
        "compiling copy",
        "reading weights, 0 B of 2.0 GB",
        "reading weights, 500.0 MB of 2.0 GB",
    ]


def test_an_activity_that_nobody_holds_any_more_hears_nothing():
    told: list[str] = []
    activity = Activity(told.append)
    report_compilations(activity)
    jax.jit(lambda x: x * 5 + 1)(jnp.ones(7))
    heard = len(told)
    del activity
    jax.jit(lambda x: x * 7 + 1)(jnp.ones(7))
    assert heard > 0
    assert len(told) == heard
