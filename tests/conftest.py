"""Settings that hold for every test."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# A failing example is printed with the blob that repeats it. Deadlines measure the machine.
settings.register_profile(
    "logmesh", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("logmesh")


@pytest.fixture(scope="session", autouse=True)
def base_directory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where ``tmp_path`` lies: chosen before a test puts its own directory in the place of /tmp."""
    tmp_path_factory.getbasetemp()
