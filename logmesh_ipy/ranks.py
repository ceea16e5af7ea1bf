"""The environment of what a mesh runs: its rank, as torch.distributed's ``env://`` reads it.

And what a command on the driver's own machine must know of the driver.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Dict, List, Mapping

__all__ = ["driver_environment", "free_port", "rank_environment"]


def free_port() -> int:
    """A TCP port on the loopback address that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def rank_environment(world_size: int) -> List[Dict[str, str]]:
    """One set of variables per rank, all on one host, with one fresh MASTER_PORT."""
    port = str(free_port())
    return [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        for rank in range(world_size)
    ]


def driver_environment(before: Mapping[str, str]) -> Dict[str, str]:
    """What has been set in this process since its environment was ``before``.

    Its own Python comes first on PATH, as in an activated environment: notebooks are mostly
    opened without activating theirs.
    """
    changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    own = os.path.dirname(sys.executable)
    if own not in path:
        changed["PATH"] = os.pathsep.join([own, *path])
    return changed
