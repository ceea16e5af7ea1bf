/** Puts a log view into a widget of JupyterLab. */
import { Widget } from '@lumino/widgets';
import type { Session } from '../core/session';
import { LogView } from '../view/logview';
import type { OpenFile } from './open_file';
import type { SettingsSource } from './settings';

export class LogViewHost extends Widget {
  /** `cell` null: all cells. `fill`: in all the height there is. */
  constructor(
    readonly session: Session,
    cell: number | null,
    fill: boolean,
    openFile: OpenFile,
    settings: SettingsSource
  ) {
    super();
    this.addClass('jp-LogMesh-view');
    this.view = new LogView({ session, cell, openFile, settings: settings.values, fill });
    this.node.append(this.view.node);
    // Keys that the view uses are not commands of the notebook around it.
    this.node.dataset['lmSuppressShortcuts'] = 'true';
    this.undo = settings.follow(values => this.view.configure(values));
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this.undo();
      this.view.dispose();
      super.dispose();
    }
  }

  private readonly view: LogView;
  private readonly undo: () => void;
}
