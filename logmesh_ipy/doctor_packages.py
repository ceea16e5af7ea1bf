"""Checks of what is installed: Python, packages and their versions, Jupyter's front end.

The bounds are those of the package's own metadata, so they stand in one place.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from ._version import __version__
from .findings import Finding, fail, ok, warn

__all__ = ["check_front_end", "check_kernel", "check_packages", "check_python"]

_NAME = "logmesh-ipy"
_REINSTALL = f"{sys.executable} -m pip install --force-reinstall --no-deps {_NAME}"
_MAY_LOSE_CELLS = SpecifierSet(">=7.1,<7.4")
_PACKAGE = Path(__file__).parent
_BROWSERS = ("jupyterlab", "notebook")


def check_python() -> List[Finding]:
    """The interpreter, and this package's own installation."""
    python = platform.python_version()
    try:
        meta = importlib.metadata.metadata(_NAME)
    except importlib.metadata.PackageNotFoundError:
        return [
            ok("Python", f"{python}, {sys.executable}"),
            warn(
                _NAME, f"{__version__} is used from {_PACKAGE}, but is not installed here",
                f"{sys.executable} -m pip install {_PACKAGE.parent}",
            ),
        ]  # fmt: skip
    bounds = str(meta["Requires-Python"] or "")
    fits = SpecifierSet(bounds).contains(python, prereleases=True)
    remedy = f"make an environment with Python {bounds}, and install {_NAME} there"
    found = [
        ok("Python", f"{python}, {sys.executable}")
        if fits
        else fail("Python", f"{python} does not fit {bounds}", remedy)
    ]
    copies = {
        str(one.locate_file("")): one.version
        for one in importlib.metadata.distributions(name=_NAME)
    }
    if meta["Version"] != __version__ or len(copies) > 1:
        places = ", ".join(f"{version} in {place}" for place, version in copies.items())
        text = f"{__version__} runs from {_PACKAGE}, and installed are {places}"
        remedy = f"{sys.executable} -m pip uninstall {_NAME}, until none is left; then install it"
        return [*found, fail(_NAME, text, remedy)]
    return [*found, ok(_NAME, f"{__version__}, {_PACKAGE}")]


def check_packages() -> List[Finding]:
    """What this package needs, against the bounds it states; optional ones where they are there."""
    fitting: List[str] = []
    wrong: List[Finding] = []
    for line in importlib.metadata.requires(_NAME) or []:
        requirement = Requirement(line)
        optional = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        if optional and requirement.name not in _BROWSERS:
            continue
        version = _version(requirement.name)
        needed = f"{requirement.name}{requirement.specifier}"
        remedy = f"{sys.executable} -m pip install '{needed}'"
        if version is None:
            if not optional:
                wrong.append(fail("packages", f"{requirement.name} is not installed", remedy))
        elif requirement.specifier.contains(version, prereleases=True):
            fitting.append(f"{requirement.name} {version}")
        elif optional:
            text = f"{requirement.name} {version} is not what this is tested with"
            wrong.append(warn("packages", text, remedy))
        else:
            text = f"{requirement.name} {version} does not fit {requirement.specifier}"
            wrong.append(fail("packages", text, remedy))
    return [ok("packages", ", ".join(dict.fromkeys(fitting))), *dict.fromkeys(wrong)]


def check_kernel() -> List[Finding]:
    """The version of ipykernel that runs, or would."""
    installed = _version("ipykernel")
    if installed is None:
        return []  # told by check_packages
    loaded = getattr(sys.modules.get("ipykernel"), "__version__", installed)
    if loaded != installed:
        text = f"ipykernel {loaded} runs, and {installed} is installed"
        return [warn("kernel", text, "restart the kernel")]
    if _MAY_LOSE_CELLS.contains(installed):
        text = f"ipykernel {installed} may never begin a cell that is run while a page is opened"
        return [warn("kernel", text, f"{sys.executable} -m pip install 'ipykernel>=7.4'")]
    return [ok("kernel", f"ipykernel {installed}")]


def check_front_end() -> List[Finding]:
    """Whether Jupyter's pages find the log view, in this version, and it is not switched off."""
    widget = _PACKAGE / "static" / "widget.js"
    found = [
        ok("widget", f"{widget.name}, {widget.stat().st_size >> 10:,} KB")
        if widget.is_file()
        else fail("widget", f"{widget} is missing", _REINSTALL)
    ]
    servers = [f"{name} {version}" for name in _BROWSERS if (version := _version(name))]
    copies = _copies()
    if not servers and not copies:
        text = "no JupyterLab or Notebook in this environment; the view comes as a widget"
        return [*found, ok("front end", text)]
    if not copies:
        text = f"{', '.join(servers)} will not find the log view: it is in none of {_places()}"
        return [*found, fail("front end", text, _REINSTALL)]
    return [*found, *_front_end(copies, ", ".join(servers) or "the server elsewhere")]


def _front_end(copies: Dict[Path, Dict[str, Any]], servers: str) -> List[Finding]:
    place, about = next(iter(copies.items()))
    version = about.get("version")
    others = [path for path in copies if copies[path] != about]
    stale = f"remove {place}; then {_REINSTALL}"
    if not _same(version, __version__):
        text = f"{servers} loads version {version} from {place}, and the kernel has {__version__}"
        return [fail("front end", text, stale)]
    entry = _entry(about)
    if not entry or not (place / entry).is_file():
        return [fail("front end", f"{place} lacks {entry or 'its entry'}", stale)]
    own = _about(_PACKAGE / "labextension")
    if own is not None and _entry(own) != entry:
        return [fail("front end", f"{place} holds another build of version {version}", stale)]
    if _NAME in _disabled():
        text = f"it is switched off in Jupyter's configuration ({servers})"
        return [fail("front end", text, f"jupyter labextension enable {_NAME}")]
    found = [ok("front end", f"{version} in {place}, for {servers}")]
    if others:
        text = f"there are others, not used: {', '.join(map(str, others))}"
        found.append(warn("front end", text, "remove them"))
    return found


def _copies() -> Dict[Path, Dict[str, Any]]:
    """Where Jupyter finds the extension, and its package.json; the first one is used."""
    found: Dict[Path, Dict[str, Any]] = {}
    for place in _places():
        path = Path(place, _NAME)
        about = _about(path)
        if about is not None:
            found.setdefault(path, about)
    return found


def _about(path: Path) -> Optional[Dict[str, Any]]:
    """The package.json of a copy; None where there is no copy, empty where it cannot be read."""
    if not path.is_dir():
        return None
    try:
        about = json.loads((path / "package.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _entry(about: Dict[str, Any]) -> str:
    """The file that a page loads first."""
    return str(about.get("jupyterlab", {}).get("_build", {}).get("load", ""))


def _places() -> List[str]:
    from jupyter_core.paths import jupyter_path

    return list(jupyter_path("labextensions"))


def _disabled() -> List[str]:
    """The extensions that are switched off, where JupyterLab is here to say so."""
    try:
        from jupyterlab_server.config import get_page_config
    except ImportError:
        return []
    settings = os.path.join(sys.prefix, "share", "jupyter", "lab", "settings")
    return list(get_page_config(_places(), settings).get("disabledExtensions", []))


def _version(name: str) -> Optional[str]:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _same(one: Any, other: str) -> bool:
    """Whether an npm and a Python version are the same."""
    try:
        return Version(str(one)) == Version(other)
    except InvalidVersion:
        return False
