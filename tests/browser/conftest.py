"""Real Jupyter servers with a real Chromium: notebooks as their users see them.

A :class:`Server` is JupyterLab or Notebook 7 in a directory of its own; a :class:`Notebook` is a
page with one notebook, driven through the application's commands and looked at through its DOM.
Screenshots go to ``LOGMESH_SCREENSHOTS`` (default: ``logmesh-screenshots`` in the temporary
directory).

``LOGMESH_BROWSER_KERNELS`` names directories with other versions of ipykernel, separated by ``:``;
tests of what depends on the kernel's version run on each.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Locator, Page, Playwright, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.support import session_processes, wait_until

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-precise-memory-info", "--js-flags=--expose-gc",
]  # fmt: skip
VIEW = ".lm-root"
_LOADS_AGAIN = 4


def screenshots() -> Path:
    """Where screenshots go."""
    place = Path(
        os.environ.get("LOGMESH_SCREENSHOTS") or Path(tempfile.gettempdir(), "logmesh-screenshots")
    )
    place.mkdir(parents=True, exist_ok=True)
    return place


class Server:
    """JupyterLab (``lab``) or Notebook 7 (``notebook``) on a free port of this machine."""

    def __init__(self, kind: str, *, ipykernel: str = "", extension: bool = True) -> None:
        self.kind = kind
        self.version = ipykernel_version(ipykernel)
        self.directory = Path(tempfile.mkdtemp(prefix="lmb-", dir="/tmp"))  # short: socket paths
        self.work = self.directory / "work"
        self.work.mkdir()
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("LOGMESH_", "JUPYTER"))}
        environ.update(
            TMPDIR=str(self.directory),
            PYTHONPATH=os.pathsep.join(filter(None, (str(ROOT), environ.get("PYTHONPATH")))),
            IPYTHONDIR=f"{self.directory}/ipython",
            JUPYTER_CONFIG_DIR=f"{self.directory}/config",
            JUPYTER_DATA_DIR=f"{self.directory}/data",
            JUPYTER_RUNTIME_DIR=f"{self.directory}/runtime",
            JUPYTERLAB_SETTINGS_DIR=f"{self.directory}/settings",
            JUPYTERLAB_WORKSPACES_DIR=f"{self.directory}/workspaces",
        )
        self._kernel_spec(ipykernel, environ["PYTHONPATH"])
        settings = self.directory / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        settings.joinpath("notification.jupyterlab-settings").write_text(json.dumps(quiet))
        if not extension:
            config = self.directory / "config" / "labconfig"
            config.mkdir(parents=True)
            disabled = {"disabledExtensions": {"logmesh-ipy": True}}
            config.joinpath("page_config.json").write_text(json.dumps(disabled))
        self.log = open(self.directory / "server.log", "w+b")  # noqa: SIM115 (closed by stop)
        app = {"lab": "LabApp", "notebook": "JupyterNotebookApp"}[kind]
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyter", kind, "--no-browser", "--allow-root",
                "--ServerApp.port=0", "--ServerApp.ip=127.0.0.1", "--IdentityProvider.token=t",
                f"--ServerApp.root_dir={self.work}", f"--{app}.expose_app_in_browser=True",
                "--KernelSpecManager.ensure_native_kernel=False",
            ],
            env=environ, cwd=self.work, stdout=self.log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self.url = wait_until(self._find_url, 60, self.words)

    @property
    def loses_requests(self) -> bool:
        """Whether its kernels may never read a request that comes while they send a reply.

        ipykernel 7.0 to 7.3 do now and then, without this package too; 7.4 is mended. The server
        and the page ask by themselves when a page is opened.
        """
        return (7, 0) <= self.version < (7, 4)

    def _kernel_spec(self, ipykernel: str, python_path: str) -> None:
        place = self.directory / "data" / "kernels" / "tested"
        place.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec: Dict[str, Any] = {"argv": argv, "display_name": "tested", "language": "python"}
        if ipykernel:
            spec["env"] = {"PYTHONPATH": os.pathsep.join((ipykernel, python_path))}
        place.joinpath("kernel.json").write_text(json.dumps(spec))

    def _find_url(self) -> Optional[str]:
        assert self.process.poll() is None, self.words()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.words())
        return found and found[0]

    def words(self) -> str:
        """What the server has said."""
        return (self.directory / "server.log").read_text(errors="replace")

    def write(self, name: str, cells: List[str]) -> None:
        """A notebook file."""
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "tested", "display_name": "tested"}
        nbformat.write(notebook, self.work / name)

    def read(self, name: str) -> Any:
        """A notebook file as it is on the disk."""
        return nbformat.read(self.work / name, as_version=4)

    def api(self, method: str, path: str) -> Any:
        """Ask the server."""
        request = urllib.request.Request(
            f"{self.url}api/{path}", method=method, headers={"Authorization": "token t"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def end_sessions(self) -> None:
        """Shut down all kernels."""
        for session in self.api("GET", "sessions"):
            self.api("DELETE", f"sessions/{session['id']}")
        wait_until(lambda: not session_processes(str(self.directory)), 10, "procs are left")

    def stop(self) -> None:
        """End it with all its kernels; nothing of their meshes may be left."""
        try:
            if self.process.poll() is None:
                self.end_sessions()
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGTERM)
                try:
                    self.process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(self.process.pid, signal.SIGKILL)
                    self.process.wait()
            self.log.close()
            shutil.rmtree(self.directory, ignore_errors=True)


class Notebook:
    """A page that shows one notebook."""

    def __init__(self, server: Server, page: Page, name: str) -> None:
        self.server = server
        self.page = page
        self.name = name
        self.errors: List[str] = []
        page.on("pageerror", lambda error: self._page_error(str(error)))
        self.open()

    def _page_error(self, error: str) -> None:
        # Notebook 7.6 says this at each start, without the extension as well.
        if self.server.kind != "notebook" or "reading 'schema'" not in error:
            self.errors.append(error)

    def open(self) -> None:
        """Load the page, and wait until the notebook's kernel is there and answers."""
        self._load()
        for _ in range(_LOADS_AGAIN if self.server.loses_requests else 0):
            if self._kernel_answers():
                return
            sys.stdout.write("the kernel has lost a request: once more with another one\n")
            self.server.end_sessions()
            self._load()
        assert self._kernel_answers(), f"the kernel does not answer\n{self.server.words()[-4000:]}"

    def _load(self) -> None:
        path = f"lab/tree/{self.name}" if self.server.kind == "lab" else f"notebooks/{self.name}"
        # A reset workspace: nothing of an earlier page is restored.
        reset = "&reset" if self.server.kind == "lab" else ""
        self.page.goto(f"{self.server.url}{path}?token=t{reset}")
        self.wait_shown()
        self.wait_idle()

    def _kernel_answers(self) -> bool:
        """Whether it runs nothing at all within a time that is plenty."""
        answers: bool = self.page.evaluate(
            """async () => {
                const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
                const run = kernel.requestExecute({ code: '', silent: true, store_history: false });
                const late = new Promise(resolve => setTimeout(() => resolve(false), 15_000));
                return await Promise.race([run.done.then(() => true), late]);
            }"""
        )
        return answers

    def reload(self) -> None:
        """What F5 does, also while a cell runs."""
        self.page.reload()
        self.wait_shown()

    def wait_shown(self) -> None:
        """Until the cells are there, and a connection to the kernel."""
        self.page.wait_for_function(
            """() => {
                const panel = window.jupyterapp?.shell?.currentWidget;
                return panel?.sessionContext?.session?.kernel?.connectionStatus === 'connected'
                    && panel.content?.widgets?.length > 0;
            }""",
            timeout=60_000,
        )

    def wait_idle(self) -> None:
        """Until the kernel has told what it is, and has answered all the page asked by itself."""
        self.page.wait_for_function(
            """async () => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel;
                await kernel?.info;
                return kernel?.status === 'idle' && kernel._futures.size === 0;
            }""",
            timeout=60_000,
        )

    def start(self, index: int) -> None:
        """Run a cell without waiting for its end."""
        self.page.evaluate(
            """index => {
                const panel = window.jupyterapp.shell.currentWidget;
                panel.content.activeCellIndex = index;
                panel.content.deselectAll();
                const runs = window.runs = window.runs || {};
                const run = runs[index] = { ended: false, problem: '' };
                window.jupyterapp.commands.execute('notebook:run-cell').then(
                    () => { run.ended = true; },
                    error => { run.problem = String(error?.stack ?? error) || 'rejected'; });
            }""",
            index,
        )

    def finish(self, index: int, timeout: float = 60.0) -> None:
        """Wait for the end of a cell: its prompt shows a number, not a star."""
        try:
            self.page.wait_for_function(
                """index => {
                    const cell = window.jupyterapp.shell.currentWidget.content.widgets[index];
                    const { ended, problem } = window.runs[index];
                    return problem || (ended && cell.model.executionCount !== null
                        && !cell.node.querySelector('.jp-InputPrompt').textContent.includes('*'));
                }""",
                arg=index,
                timeout=timeout * 1000,
            )
        except PlaywrightTimeout as error:
            what = f"cell {index} has not ended in {timeout:.0f} s: {self._run(index)}"
            raise AssertionError(f"{what}\n{self.server.words()[-4000:]}") from error
        assert not (run := self._run(index))["problem"], f"cell {index} did not run: {run}"

    def _run(self, index: int) -> Any:
        """What the page knows of a cell that was started, and of its kernel."""
        return self.page.evaluate(
            """index => {
                const { content, sessionContext } = window.jupyterapp.shell.currentWidget;
                const cell = content.widgets[index];
                const kernel = sessionContext.session?.kernel;
                return {
                    ...window.runs[index],
                    prompt: cell.node.querySelector('.jp-InputPrompt').textContent,
                    executionCount: cell.model.executionCount,
                    kernel: kernel?.status, connection: kernel?.connectionStatus,
                };
            }""",
            index,
        )

    def run(self, index: int, timeout: float = 60.0) -> Locator:
        """Run a cell to its end; gives the cell."""
        self.start(index)
        self.finish(index, timeout)
        return self.cell(index)

    def run_all(self, *indices: int) -> None:
        """Run some cells, one after another."""
        for index in indices:
            self.run(index)

    def cell(self, index: int) -> Locator:
        """A cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def view(self, index: int) -> Locator:
        """The live view under a cell."""
        return self.cell(index).locator(VIEW)

    def save(self) -> None:
        """Write the notebook to the disk."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def command(self, name: str, **arguments: str) -> None:
        """Execute one of the application's commands."""
        self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args)", [name, arguments]
        )

    def shot(self, name: str) -> None:
        """A screenshot of the page."""
        self.page.screenshot(path=str(screenshots() / f"{self.server.kind}-{name}.png"))


def show_controls(view: Locator) -> Locator:
    """The view with the bar above it; beyond some lines that comes by itself."""
    view.evaluate("node => node.scrollIntoView({ block: 'center' })")
    bar = view.locator(".lm-bar")
    for _ in range(3):  # where it has come just before, the click has hidden it
        if bar.is_visible():
            break
        view.hover()
        view.get_by_role("button", name="Controls", exact=True).click()
    expect(bar).to_be_visible()
    return view


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium. While it is open the main thread has a running loop: so not longer."""
    if not CHROMIUM:
        assert not os.environ.get("CI"), "there is no chromium, and CI leaves nothing out"
        pytest.skip("no chromium on PATH; on Debian: apt-get install chromium")
    playwright: Playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["lab", "notebook"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """JupyterLab and Notebook 7."""
    made = Server(request.param)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def lab() -> Iterator[Server]:
    """JupyterLab alone."""
    made = Server("lab")
    yield made
    made.stop()


def ipykernels() -> List[str]:
    """Directories of the versions of ipykernel to test; empty: the one that is installed."""
    others = os.environ.get("LOGMESH_BROWSER_KERNELS", "")
    return ["", *filter(None, others.split(os.pathsep))]


def ipykernel_version(directory: str) -> Tuple[int, ...]:
    """Major and minor of the one in a directory; of the installed one for ""."""
    path = [directory] if directory else sys.path
    (found, *_) = importlib.metadata.distributions(name="ipykernel", path=path)
    return tuple(int(part) for part in found.version.split(".")[:2])


Opener = Callable[..., Notebook]


@pytest.fixture
def open_notebook(chromium: Browser) -> Iterator[Opener]:
    """``open_notebook(server, cells)`` opens a page; after the test its kernel is gone."""
    pages: List[Page] = []
    servers: Dict[int, Server] = {}

    def open_it(server: Server, cells: List[str], *, width: int = 1280, **options: Any) -> Notebook:
        name = f"n{time.monotonic_ns()}.ipynb"
        server.write(name, cells)
        servers[id(server)] = server
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        page = context.new_page()
        pages.append(page)
        return Notebook(server, page, name)

    yield open_it
    for page in pages:
        page.context.close()
    for server in servers.values():
        if server.process.poll() is None:
            server.end_sessions()
