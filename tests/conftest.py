"""Fixtures that every part of the tests may use, and how hypothesis draws its examples."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.storage.servers"]

# The same examples each time, or a change is refused for what is no doing of its own; and no
# clocks, which tell how busy the machine is. `make fuzz` draws others.
NO_CLOCKS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **NO_CLOCKS)
settings.register_profile("others", print_blob=True, **NO_CLOCKS)
settings.load_profile("same")
