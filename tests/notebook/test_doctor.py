"""``logmesh doctor``, as a command and in a kernel: a healthy installation, and broken ones.

The installations are real: an environment of its own with the packages of this one, in which
Jupyter finds the front end that the test puts there.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from logmesh_ipy._version import __version__
from logmesh_ipy.doctor_packages import check_front_end, check_kernel, check_packages, check_python
from logmesh_ipy.doctor_system import (
    check_limits,
    check_temporary_directory,
    check_variables,
)
from logmesh_ipy.findings import Finding
from tests.notebook.conftest import ROOT, KernelMaker, mesh_directories, mesh_processes

pytestmark = pytest.mark.notebook
PACKAGES = "import site; site.addsitedir({!r})"
LINE = re.compile(r"(ok|warn|fail) +(.+?): +(.*)")


class Installation:
    """An environment with the packages of this one, and a front end of its own."""

    def __init__(self, place: Path) -> None:
        venv.create(place, symlinks=True, with_pip=False)
        self.place = place
        self.python = str(place / "bin" / "python")
        (site,) = place.glob("lib/python*/site-packages")
        here = [path for path in sys.path if path.endswith("site-packages")]
        (site / "others.pth").write_text("\n".join(PACKAGES.format(path) for path in here))
        self.temporary = Path(tempfile.mkdtemp(prefix="lmt-", dir="/tmp"))  # short, for sockets
        self.front_end = place / "share/jupyter/labextensions/logmesh-ipy"
        shutil.copytree(ROOT / "logmesh_ipy/labextension", self.front_end)

    def environ(self, **changes: str) -> Dict[str, str]:
        """Of what runs there: nothing of the user's, nor of the machine's, but what is given."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LOGMESH_", "JUPYTER"))}
        home = {"HOME": str(self.place), "PYTHONPATH": str(ROOT)}
        return {**kept, **home, "TMPDIR": str(self.temporary), **changes}

    def doctor(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """The command."""
        return subprocess.run(
            [self.python, "-m", "logmesh_ipy", "doctor", *words],
            capture_output=True, text=True, timeout=60, check=False, env=self.environ(**environ),
        )  # fmt: skip


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A healthy one."""
    made = Installation(tmp_path / "env")
    yield made
    shutil.rmtree(made.temporary)


def findings(text: str, state: str) -> List[str]:
    """What has been found in a state: subject and text."""
    matches = [LINE.fullmatch(line) for line in text.splitlines()[:-1]]
    assert all(matches), text
    return [f"{match[2]}: {match[3]}" for match in matches if match and match[1] == state]


def test_a_healthy_installation_is_all_ok(installation: Installation) -> None:
    done = installation.doctor()
    assert (done.returncode, done.stderr) == (0, ""), done
    assert findings(done.stdout, "fail") == findings(done.stdout, "warn") == [], done.stdout
    text = "\n".join(findings(done.stdout, "ok"))
    for part in (
        f"logmesh-ipy: {__version__}", "ipykernel", "msgpack",
        f"{__version__} in {installation.place}",
        "widget.js", f"{installation.temporary} (", "enough for", "none set", "its line was here",
    ):  # fmt: skip
        assert part in text
    assert done.stdout.endswith("checks: all is well\n")
    assert list(installation.temporary.iterdir()) == []


def test_lines_of_a_kernel_that_crashed_are_told_and_left_alone(installation: Installation) -> None:
    code = (
        "import os\nfrom logmesh_ipy import this_host\n"
        "mesh = this_host().spawn_procs(1).get(30)\n"
        "mesh.run('print(1)').get(30), mesh.flush().get(30)\nos._exit(1)"
    )
    subprocess.run(
        [installation.python, "-c", code], check=False, timeout=60, env=installation.environ()
    )
    [kept] = installation.temporary.glob("logmesh-stores-*/*")
    for _ in range(2):
        done = installation.doctor()
        assert done.returncode == 0, done
        (text,) = (text for text in findings(done.stdout, "ok") if text.startswith("sessions"))
        assert f"1 crashed kernels are kept: {kept.stem}" in text
        assert kept.stat().st_size


def test_in_a_kernel_it_needs_no_mesh_disturbs_none_and_leaves_nothing(
    kernels: KernelMaker, installation: Installation
) -> None:
    kernels.python = installation.python
    kernel = kernels(JUPYTER_PREFER_ENV_PATH="1", JUPYTER_CONFIG_DIR=str(installation.place))
    kernel.run("%load_ext logmesh_ipy")
    for _ in range(2):
        cell = kernel.run("%logmesh doctor", timeout=60)
        assert findings(cell.stdout, "fail") == [], cell.stdout
        assert "its line was here" in cell.stdout
        assert cell.displays == []
        assert not mesh_processes(kernels.directory)
        assert not mesh_directories(kernels.directory)
    kernel.run("%logmesh start --procs 1")
    cell = kernel.run("%logmesh doctor --quick\nprint('and on')")
    assert findings(cell.stdout.removesuffix("and on\n"), "fail") == []
    cell = kernel.run("%logmesh doctor\n", timeout=60)
    assert cell.lines == []
    assert kernel.run("%%logmesh run\nprint(1)").lines == ["[0] 1"]
    for question in ("%logmesh doctor?", "%logmesh"):
        assert "doctor" in kernel.run(question).stdout
    assert "--quick" in kernel.complete("%logmesh doctor --")


def test_all_faults_of_an_installation_are_told_at_once(installation: Installation) -> None:
    """The command ends with 1, and each line says what to do."""
    about = installation.front_end / "package.json"
    about.write_text(about.read_text().replace(f'"{__version__}"', '"0.0.9"'))
    long = installation.place / ("x" * 100)
    long.mkdir()
    wrong = {"LOGMESH_PROCS": "many", "LOGMESH_WINDOW_SECS": "3", "TMPDIR": str(long)}
    done = installation.doctor(**wrong)
    assert (done.returncode, done.stderr) == (1, "")
    failed, doubtful = findings(done.stdout, "fail"), findings(done.stdout, "warn")
    assert all("To do: " in text for text in failed + doubtful)
    for subject, part in (
        ("front end", f"version 0.0.9 from {installation.front_end}, and the kernel has"),
        ("temp. files", "bytes too long"),
        ("variables", "procs is 'many'"),
        ("a proc", "cannot be started"),
    ):
        assert any(text.startswith(subject) and part in text for text in failed), (subject, failed)
    assert any("LOGMESH_WINDOW_SECS is no option" in text for text in doubtful)
    assert "its line was here" not in done.stdout
    assert re.search(r"checks: 4 failed, \d in doubt\n\Z", done.stdout)


# --- fault by fault -------------------------------------------------------------------------------


def wrong(found: List[Finding]) -> List[str]:
    """All but what is ok: state, text, and what to do."""
    assert all(bool(finding.remedy) == (finding.state != "ok") for finding in found), found
    return [f"{f.state} {f.text}; {f.remedy}" for f in found if f.state != "ok"]


@pytest.fixture
def front_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The copy that Jupyter finds first."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / "labextensions/logmesh-ipy"
    shutil.copytree(ROOT / "logmesh_ipy/labextension", place)
    return place


def test_a_front_end_that_does_not_fit_is_named_with_the_remedy(front_end: Path) -> None:
    def failed() -> str:
        (text,) = [text for text in wrong(check_front_end()) if text.startswith("fail")]
        assert f"remove {front_end}; then " in text
        assert "pip install --force-reinstall" in text
        return text

    assert not [text for text in wrong(check_front_end()) if text.startswith("fail")]
    about = front_end / "package.json"
    content = json.loads(about.read_text())
    about.write_text(json.dumps({**content, "version": "0.0.9"}))
    assert f"version 0.0.9 from {front_end}" in failed()
    content["jupyterlab"]["_build"]["load"] = "static/remoteEntry.0123.js"
    about.write_text(json.dumps(content))
    assert "lacks static/remoteEntry.0123.js" in failed()
    (front_end / "static/remoteEntry.0123.js").touch()
    assert "another build" in failed()
    about.write_text("{")
    assert "version None" in failed()


def test_a_front_end_that_is_switched_off_is_named(
    front_end: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(front_end.parent))
    config = front_end.parent / "labconfig/page_config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"disabledExtensions": {"logmesh-ipy": True}}))
    (text, *_) = wrong(check_front_end())
    assert "switched off" in text
    assert text.endswith("jupyter labextension enable logmesh-ipy")


def test_a_front_end_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("logmesh_ipy.doctor_packages._places", lambda: [str(tmp_path)])
    (text,) = wrong(check_front_end())
    assert "will not find the log view" in text
    assert str(tmp_path) in text


def test_another_copy_that_pages_do_not_load_is_in_doubt(
    front_end: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other/labextensions/logmesh-ipy"
    shutil.copytree(front_end, other)
    monkeypatch.setenv("JUPYTER_PATH", f"{tmp_path}:{tmp_path}/other")
    assert not any(str(other) in text for text in wrong(check_front_end()))
    about = other / "package.json"
    about.write_text(about.read_text().replace(__version__, "0.0.8"))
    (text,) = wrong(check_front_end())
    assert text.startswith("warn")
    assert str(other) in text


@pytest.mark.parametrize(
    ("tmpdir", "state", "told"),
    [
        ("/proc/nothing/there", "warn", "there is nothing; "),
        ("/sys/kernel", "warn", "nothing can be written; "),
        ("/etc/passwd", "warn", "there is no directory; "),
        ("LONG", "fail", "bytes too long"),
    ],
)
def test_a_temporary_directory_that_will_not_do_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmpdir: str, state: str, told: str
) -> None:
    if tmpdir == "LONG":
        long = tmp_path / ("x" * 100)
        long.mkdir()
        tmpdir = str(long)
    monkeypatch.setenv("TMPDIR", tmpdir)
    monkeypatch.setattr(tempfile, "tempdir", None)
    (text, *_) = wrong(check_temporary_directory())
    assert text.startswith(state)
    assert told in text
    assert tmpdir in text
    assert text.endswith("start anew")


def test_variables_that_are_misspelt_or_wrong_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(**environ: str) -> List[str]:
        with monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            return wrong(check_variables())

    first, second = told(LOGMESH_WINDOW_SECS="3", LOGMESH_GADGET="1")
    assert first == "warn LOGMESH_GADGET is no option, and does nothing; remove it"
    assert second.endswith(
        "LOGMESH_WINDOW_SECS is no option, and does nothing; write LOGMESH_WINDOW_SEC"
    )
    (text,) = told(LOGMESH_PROCS="many")
    assert text.startswith("fail procs is 'many'")
    assert "LOGMESH_PROCS" in text
    (text,) = told(LOGMESH_VIEW="huge")
    assert "LOGMESH_VIEW" in text
    assert told(LOGMESH_LEVEL="DEBUG", LOGMESH_TEST_FAULTS="0", LOGMESH_SESSION="x") == []


def test_packages_that_do_not_fit_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)

    def install(name: str, version: str) -> None:
        place = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        place.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", ""]
        (place / "METADATA").write_text("\n".join(lines))

    assert wrong(check_packages()) == wrong(check_kernel()) == wrong(check_python()) == []
    for name, version in (("ipykernel", "7.0.1"), ("msgpack", "1.0.0"), ("jupyterlab", "4.0.1")):
        install(name, version)
    kernel, msgpack, lab = sorted(wrong(check_packages()))
    assert kernel.startswith("fail ipykernel 7.0.1 does not fit")
    assert "pip install 'ipykernel" in kernel
    assert msgpack.startswith("fail msgpack 1.0.0 does not fit >=1.2.3; ")
    assert lab.startswith("warn jupyterlab 4.0.1")
    shutil.rmtree(tmp_path / "ipykernel-7.0.1.dist-info")
    install("ipykernel", "7.3.0")
    (text,) = wrong(check_kernel())
    assert "may never begin a cell" in text
    assert text.endswith("'ipykernel>=7.4'")
    install("logmesh-ipy", "0.0.7")
    (text,) = wrong(check_python())
    assert f"0.0.7 in {tmp_path}" in text
    assert "pip uninstall" in text


def test_a_limit_for_few_procs_is_in_doubt() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))\n"
        "from logmesh_ipy.doctor_system import check_limits\nprint(*check_limits())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60,
        cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.startswith("warn  limits:")
    assert "128 open files" in done.stdout
    assert "enough for 16 procs at most. To do: raise `ulimit -Hn`" in done.stdout
    assert before[1] < 512 or not wrong(check_limits())
