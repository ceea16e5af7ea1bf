"""Settings that hold for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A failing example is printed with the blob that repeats it. Deadlines measure the machine.
settings.register_profile(
    "logmesh", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("logmesh")
