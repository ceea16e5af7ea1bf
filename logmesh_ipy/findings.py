"""What a check of the installation has found: one line, and what to do where it is not well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, List

__all__ = ["Finding", "fail", "ok", "report_text", "warn"]

_WIDTH = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """``state``: ``ok``, ``warn`` (it works, or may), ``fail``. ``remedy``: empty where ok."""

    state: str
    subject: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        told = f"{self.state:<5} {self.subject + ':':<{_WIDTH}} {self.text}"
        return f"{told}. To do: {self.remedy}" if self.remedy else told


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding("ok", subject, text)


def warn(subject: str, text: str, remedy: str) -> Finding:
    """It works, but not as well as it could, or not always."""
    return Finding("warn", subject, text, remedy)


def fail(subject: str, text: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding("fail", subject, text, remedy)


def report_text(findings: Iterable[Finding]) -> str:
    """A line for each, and one for all."""
    found: List[Finding] = list(findings)
    wrong = sum(finding.state == "fail" for finding in found)
    doubtful = sum(finding.state == "warn" for finding in found)
    end = "all is well"
    if wrong or doubtful:
        end = f"{wrong} failed, {doubtful} in doubt"
    return "\n".join([*map(str, found), f"{len(found)} checks: {end}"]) + "\n"
