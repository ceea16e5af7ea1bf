/** The session that the panel, the status item and the commands are about: that of the notebook or
 * console the user worked in last. */
import type { ISessionContext } from '@jupyterlab/apputils';
import { Signal, type ISignal } from '@lumino/signaling';
import type { Widget } from '@lumino/widgets';
import { sessionOf, type Session } from '../core/session';
import type { SessionLinks } from './session_links';

type Document = Widget & { readonly sessionContext: ISessionContext };

/** What this needs of a notebook or console tracker. */
export interface DocumentTracker {
  readonly currentWidget: Document | null;
  readonly currentChanged: ISignal<unknown, Document | null>;
  find(test: (document: Document) => boolean): Document | undefined;
}

/** What this needs of the application's shell. */
export interface DocumentShell {
  readonly currentWidget: Widget | null;
  readonly currentChanged?: ISignal<unknown, unknown>;
}

export class CurrentSession {
  constructor(
    private readonly links: SessionLinks,
    private readonly shell: DocumentShell,
    private readonly trackers: readonly DocumentTracker[]
  ) {
    links.changed.connect(this.update, this);
    // A tracker is silent when its current document comes back from one of another tracker; the shell tells.
    shell.currentChanged?.connect(() => this.follow(null));
    for (const tracker of trackers) {
      tracker.currentChanged.connect((_, document) => this.follow(document));
      this.follow(tracker.currentWidget);
    }
  }

  get session(): Session | null {
    return this.held;
  }

  /** Another session (or none) is the current one. */
  get changed(): ISignal<this, Session | null> {
    return this.signal;
  }

  /** Follows the document that is current in the shell; where none is, that of which a tracker told. */
  private follow(told: Document | null): void {
    const context = (this.inShell() ?? told)?.sessionContext;
    if (context === undefined) {
      return; // a tracker without documents has no say; a closed one says so by its context
    }
    this.context = context;
    context.disposed.connect(this.onDisposed, this);
    context.kernelChanged.connect(this.update, this);
    this.update();
  }

  private inShell(): Document | undefined {
    const current = this.shell.currentChanged === undefined ? null : this.shell.currentWidget;
    for (const tracker of current === null ? [] : this.trackers) {
      const document = tracker.find(each => each === current);
      if (document !== undefined) {
        return document;
      }
    }
    return undefined;
  }

  private onDisposed(context: ISessionContext): void {
    if (this.context === context) {
      this.context = null;
      this.update();
    }
  }

  private update(): void {
    const id = this.context === null ? null : this.links.newest(this.context);
    if (id !== (this.held?.id ?? null)) {
      this.held = id === null ? null : sessionOf(id);
      this.signal.emit(this.held);
    }
  }

  private readonly signal = new Signal<this, Session | null>(this);
  private context: ISessionContext | null = null;
  private held: Session | null = null;
}
