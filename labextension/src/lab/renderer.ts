/**
 * Renders the output `application/vnd.logmesh.cell+json`: what the mesh said under one cell, live.
 *
 * The same output carries a widget for other front ends; ours ranks before it. While the page has no
 * way to the session (the kernel is gone) the output takes no space, and the saved snapshot beside it
 * is what is seen. The data comes from the notebook file, so it is as hostile as log text: it selects a
 * session that is there, or nothing.
 */
import type { IRenderMime } from '@jupyterlab/rendermime';
import type { Message } from '@lumino/messaging';
import { PanelLayout, Widget } from '@lumino/widgets';
import { sessionOf } from '../core/session';
import { hideSnapshot } from '../view/snapshot';
import type { OpenFile } from './open_file';
import type { SettingsSource } from './settings';
import { LogViewHost } from './view_host';

export const CELL_MIME = 'application/vnd.logmesh.cell+json';
/** Before `application/vnd.jupyter.widget-view+json`, which its manager registers with -10. */
export const CELL_RANK = -20;

export interface CellRendererOptions {
  /** Told of the session that an output names. */
  expect(session: string): void;
  openFile: OpenFile;
  settings: SettingsSource;
}

export function cellRendererFactory(options: CellRendererOptions): IRenderMime.IRendererFactory {
  return {
    safe: true, // it shows text only
    mimeTypes: [CELL_MIME],
    createRenderer: () => new CellRenderer(options)
  };
}

class CellRenderer extends Widget implements IRenderMime.IRenderer {
  constructor(private readonly options: CellRendererOptions) {
    super();
    this.addClass('jp-LogMesh-output');
    this.layout = new PanelLayout();
  }

  renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const data = cellData(model.data[CELL_MIME]);
    if (data?.session !== this.data?.session || data?.cell !== this.data?.cell) {
      this.clear();
      this.data = data;
      if (data !== null) {
        const session = sessionOf(data.session);
        this.undos.push(session.on('state', () => this.showWhenConnected()));
        this.options.expect(data.session);
        this.showWhenConnected();
      }
    }
    return Promise.resolve();
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this.clear();
      super.dispose();
    }
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.takeSpace();
  }

  /** Once live, a view stays: what it holds can be read when the kernel is gone. */
  private showWhenConnected(): void {
    const { data, options } = this;
    if (data === null || this.host !== null) {
      return;
    }
    const session = sessionOf(data.session);
    if (session.connected) {
      this.host = new LogViewHost(session, data.cell, false, options.openFile, options.settings);
      (this.layout as PanelLayout).addWidget(this.host);
      this.undos.push(hideSnapshot(data.session, data.cell));
      this.takeSpace();
    }
  }

  /** The parent is the output's row, with its prompt and padding. */
  private takeSpace(): void {
    this.parent?.setHidden(this.host === null);
  }

  private clear(): void {
    for (const undo of this.undos.splice(0)) {
      undo();
    }
    this.host?.dispose();
    this.host = null;
    this.data = null;
    this.takeSpace();
  }

  private readonly undos: (() => void)[] = [];
  private data: CellData | null = null;
  private host: LogViewHost | null = null;
}

interface CellData {
  session: string;
  /** Null: all cells. */
  cell: number | null;
}

/** Null where it is not what the kernel writes. */
export function cellData(value: unknown): CellData | null {
  const { session, cell } = (value ?? {}) as { session?: unknown; cell?: unknown };
  const valid = typeof session === 'string' && /^[\w-]{1,64}$/.test(session) && (cell === null || Number.isSafeInteger(cell));
  return valid ? { session, cell: cell as number | null } : null;
}
