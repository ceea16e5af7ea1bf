"""The environment that tells a process its rank, as torch.distributed's ``env://`` reads it."""

from __future__ import annotations

import socket
from typing import Dict, List

__all__ = ["free_port", "rank_environment"]


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
