/**
 * The JupyterLab extension. Only the application itself is required: what an application lacks (Notebook
 * has no status bar) is left out.
 */
import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, type ISessionContext } from '@jupyterlab/apputils';
import { IConsoleTracker } from '@jupyterlab/console';
import { PathExt } from '@jupyterlab/coreutils';
import { IDocumentManager } from '@jupyterlab/docmanager';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import { Token } from '@lumino/coreutils';
import { addCommands, CATEGORY, PALETTE } from './commands';
import { CurrentSession } from './current';
import { fileOpener, type OpenFile } from './open_file';
import { MeshPanel, PANEL_ID } from './panel';
import { CELL_RANK, cellRendererFactory } from './renderer';
import { SessionLinks } from './session_links';
import { Settings, type SettingsSource } from './settings';
import { MeshStatus } from './status';

const PLUGIN_ID = 'logmesh-ipy:plugin';

/** What the plugins share. */
interface ILogMesh {
  readonly current: CurrentSession;
  readonly openFile: OpenFile;
  readonly settings: SettingsSource;
}

const ILogMesh = new Token<ILogMesh>('logmesh-ipy:ILogMesh', 'The sessions of this page and how views of them are made.');

/** Connects to the sessions of all notebooks and consoles and renders the outputs that name them. */
const sessions: JupyterFrontEndPlugin<ILogMesh> = {
  id: PLUGIN_ID,
  description: 'Shows what the procs of a log mesh print under the cell that caused it.',
  autoStart: true,
  provides: ILogMesh,
  optional: [INotebookTracker, IConsoleTracker, IRenderMimeRegistry, IDocumentManager, ISettingRegistry],
  activate: (
    app: JupyterFrontEnd,
    notebooks: INotebookTracker | null,
    consoles: IConsoleTracker | null,
    rendermime: IRenderMimeRegistry | null,
    documents: IDocumentManager | null,
    registry: ISettingRegistry | null
  ): ILogMesh => {
    const links = new SessionLinks();
    const settings = new Settings();
    const openFile: OpenFile =
      documents === null
        ? () => undefined
        : fileOpener(documents, () => PathExt.dirname(notebooks?.currentWidget?.context.path ?? ''));

    /** Renderers of a document must reach its kernel, so each document has a factory of its own. */
    const equip = (registered: IRenderMimeRegistry, context: ISessionContext): void => {
      links.watch(context);
      const expect = (session: string): void => links.expect(context, session);
      registered.addFactory(cellRendererFactory({ expect, openFile, settings }), CELL_RANK);
    };
    // Where there is no document around an output it is live if its session is known to the page.
    rendermime?.addFactory(cellRendererFactory({ expect: () => undefined, openFile, settings }), CELL_RANK);
    notebooks?.forEach(panel => equip(panel.content.rendermime, panel.sessionContext));
    notebooks?.widgetAdded.connect((_, panel) => equip(panel.content.rendermime, panel.sessionContext));
    consoles?.forEach(panel => equip(panel.console.rendermime, panel.sessionContext));
    consoles?.widgetAdded.connect((_, panel) => equip(panel.console.rendermime, panel.sessionContext));

    void registry
      ?.load(PLUGIN_ID)
      .then(loaded => settings.use(loaded))
      .catch((error: unknown) => console.warn('logmesh-ipy: the settings do not load; these are the defaults.', error));
    const trackers = [notebooks, consoles].filter(tracker => tracker !== null);
    return { current: new CurrentSession(links, app.shell, trackers), openFile, settings };
  }
};

/** The side panel and the commands. */
const panel: JupyterFrontEndPlugin<void> = {
  id: 'logmesh-ipy:panel',
  description: 'A side panel with the lines of all procs and cells, and commands for the mesh.',
  autoStart: true,
  requires: [ILogMesh],
  optional: [ICommandPalette, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    { current, openFile, settings }: ILogMesh,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null
  ): void => {
    const { commands, shell } = app;
    const widget = new MeshPanel(current, openFile, settings);
    shell.add(widget, 'right', { rank: 900, type: 'Log Mesh' });
    restorer?.add(widget, PANEL_ID);
    const side = shell as Partial<SideShell>;
    addCommands(commands, current, {
      get isShown() {
        return widget.isVisible;
      },
      show: () => shell.activateById(PANEL_ID),
      hide: () => side.collapseRight?.()
    });
    for (const entry of PALETTE) {
      palette?.addItem({ category: CATEGORY, ...entry });
    }
    const refresh = (): void => commands.notifyCommandChanged();
    let undo: (() => void) | undefined;
    current.changed.connect((_, session) => {
      undo?.();
      undo = session?.on('state', refresh);
      refresh();
    });
  }
};

/** The item of the status bar. */
const status: JupyterFrontEndPlugin<void> = {
  id: 'logmesh-ipy:status',
  description: "The state of the current notebook's mesh in the status bar.",
  autoStart: true,
  requires: [ILogMesh],
  optional: [IStatusBar],
  activate: (app: JupyterFrontEnd, { current }: ILogMesh, bar: IStatusBar | null): void => {
    if (bar !== null) {
      const item = new MeshStatus(current, () => app.shell.activateById(PANEL_ID));
      bar.registerStatusItem('logmesh-ipy:status', {
        item,
        align: 'left',
        rank: 10,
        isActive: item.isActive,
        activeStateChanged: item.activeChanged
      });
    }
  }
};

/** What the shells of JupyterLab and Notebook have beyond the common interface. */
interface SideShell {
  collapseRight(): void;
}

const plugins: JupyterFrontEndPlugin<unknown>[] = [sessions, panel, status];
export default plugins;
