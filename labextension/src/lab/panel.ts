/** The right-hand panel: all cells of the current session, or how to start one. */
import type { Message } from '@lumino/messaging';
import { PanelLayout, Widget } from '@lumino/widgets';
import type { CurrentSession } from './current';
import { logMeshIcon } from './icon';
import type { OpenFile } from './open_file';
import type { SettingsSource } from './settings';
import { LogViewHost } from './view_host';

export const PANEL_ID = 'logmesh-panel';

export class MeshPanel extends Widget {
  constructor(
    private readonly current: CurrentSession,
    private readonly openFile: OpenFile,
    private readonly settings: SettingsSource
  ) {
    super();
    this.id = PANEL_ID;
    this.addClass('jp-LogMesh-panel');
    this.title.icon = logMeshIcon;
    this.title.caption = 'Log mesh';
    const layout = new PanelLayout();
    layout.addWidget(this.empty);
    this.layout = layout;
    current.changed.connect(() => this.update());
  }

  /** A view costs time with each line, so there is none before the panel is first seen. */
  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.update();
  }

  protected override onUpdateRequest(message: Message): void {
    super.onUpdateRequest(message);
    const { session } = this.current;
    if (this.host !== null && this.host.session !== session) {
      this.host.dispose();
      this.host = null;
    }
    if (this.host === null && session !== null && this.isVisible) {
      this.host = new LogViewHost(session, null, true, this.openFile, this.settings);
      (this.layout as PanelLayout).addWidget(this.host);
    }
    this.empty.setHidden(this.host !== null);
  }

  private readonly empty = new Widget({ node: emptyNode() });
  private host: LogViewHost | null = null;
}

function emptyNode(): HTMLElement {
  const node = document.createElement('div');
  node.className = 'jp-LogMesh-empty';
  const what = document.createElement('p');
  what.textContent = 'The kernel of this notebook has no mesh. To start one with four procs, run in a cell:';
  const how = document.createElement('pre');
  how.textContent = '%load_ext logmesh_ipy\n%logmesh start --procs 4';
  node.append(what, how);
  return node;
}
