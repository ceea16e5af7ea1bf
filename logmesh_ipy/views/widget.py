"""Widget models for front ends that know widgets only; loaded when a notebook starts a mesh.

    hub    one per session: holds the front end's code, and is the way to and from the browser
    cell   one per cell: a few words that say which cell's lines to show; its view finds the hub

So the code travels once, not with each cell.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import Any, Dict, List, Optional

import anywidget
import traitlets

from .comms import Heard, Port

__all__ = ["CellModel", "HubModel", "HubPort"]

# What each model has for code: find the hub, load its module once per page, show the cell with it.
_SHIM = """\
async function render({ model, el }) {
  const hub = await model.widget_manager.get_model(model.get("hub"));
  const key = Symbol.for("logmesh_ipy.module." + hub.get("digest"));
  globalThis[key] ??= import(
    URL.createObjectURL(new Blob([hub.get("code")], { type: "text/javascript" }))
  );
  return (await globalThis[key]).render({ model, el, hub });
}
export default { render };
"""


@lru_cache(maxsize=1)
def _code() -> str:
    return files("logmesh_ipy").joinpath("static/widget.js").read_text(encoding="utf-8")


class HubModel(anywidget.AnyWidget):
    """One per session; never displayed."""

    _esm = "export default {};"
    code = traitlets.Unicode().tag(sync=True)
    digest = traitlets.Unicode().tag(sync=True)
    session = traitlets.Unicode().tag(sync=True)

    def __init__(self, session: str) -> None:
        code = _code()
        digest = hashlib.sha256(code.encode()).hexdigest()[:16]
        super().__init__(session=session, code=code, digest=digest)


class CellModel(anywidget.AnyWidget):
    """One per cell; its display shows the cell's lines. ``cell`` None: those of all cells."""

    _esm = _SHIM
    hub = traitlets.Unicode().tag(sync=True)
    session = traitlets.Unicode().tag(sync=True)
    cell = traitlets.Int(allow_none=True).tag(sync=True)


class HubPort(Port):
    """The hub's comm."""

    def __init__(self, kernel: Any, session: str, on_heard: Heard) -> None:
        self.hub = HubModel(session)
        self._cells: List[CellModel] = []
        super().__init__(kernel, self.hub.comm, on_heard)
        self.hub.on_msg(self._on_custom)

    def wrap(self, content: Dict[str, Any]) -> Dict[str, Any]:
        """Port: as a custom message of the model."""
        return {"method": "custom", "content": content}

    def cell_model(self, cell: Optional[int]) -> str:
        """A new model that shows a cell; its id. In the context of that cell."""
        model = CellModel(hub=self.hub.model_id, session=self.hub.session, cell=cell)
        self._cells.append(model)
        return str(model.model_id)

    def close(self) -> None:
        """Port: the models go as well."""
        for model in self._cells:
            model.close()
        self._cells.clear()
        self.hub.close()
        super().close()

    def _on_custom(self, widget: Any, content: Any, buffers: Any) -> None:
        self.hear(content)
