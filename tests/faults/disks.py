"""Disks that a test may fill, and make read-only: small tmpfs mounts of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

__all__ = ["Disk", "mounted"]


class Disk:
    """A small file system mounted at ``path``."""

    def __init__(self, path: str, size: str) -> None:
        self.path = path
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path]
        if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("cannot mount a small disk here (that takes root and a mount namespace)")

    def fill(self) -> None:
        """Leave no room."""
        with open(f"{self.path}/filler", "ab", buffering=0) as filler:
            while os.statvfs(self.path).f_bavail:
                filler.write(b"\0" * 4096)

    def free(self) -> None:
        """Take away what ``fill`` has put there."""
        os.unlink(f"{self.path}/filler")

    def allow_writing(self, allowed: bool) -> None:
        """Remount; nothing may be open for writing when it is made read-only."""
        how = "rw" if allowed else "ro"
        subprocess.run(["mount", "-o", f"remount,{how}", self.path], check=True)

    def unmount(self) -> None:
        """What is open there stays so."""
        subprocess.run(["umount", "-l", self.path], check=True)


def mounted(path: Path, size: str) -> Iterator[Disk]:
    """For fixtures: the disk, for as long as the test lasts."""
    path.mkdir(exist_ok=True)
    disk = Disk(str(path), size)
    try:
        yield disk
    finally:
        disk.unmount()
