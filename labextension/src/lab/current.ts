/** The session that the panel, the status item and the commands are about: that of the notebook or
 * console the user worked in last. */
import type { ISessionContext } from '@jupyterlab/apputils';
import { Signal, type ISignal } from '@lumino/signaling';
import type { Widget } from '@lumino/widgets';
import { sessionOf, type Session } from '../core/session';
import type { SessionLinks } from './session_links';

/** What this needs of a notebook or console tracker. */
export interface DocumentTracker {
  readonly currentWidget: (Widget & { readonly sessionContext: ISessionContext }) | null;
  readonly currentChanged: ISignal<unknown, (Widget & { readonly sessionContext: ISessionContext }) | null>;
}

export class CurrentSession {
  constructor(
    private readonly links: SessionLinks,
    trackers: readonly DocumentTracker[]
  ) {
    links.changed.connect(this.update, this);
    for (const tracker of trackers) {
      tracker.currentChanged.connect((_, widget) => this.follow(widget?.sessionContext ?? null));
      this.follow(tracker.currentWidget?.sessionContext ?? null);
    }
  }

  get session(): Session | null {
    return this.held;
  }

  /** Another session (or none) is the current one. */
  get changed(): ISignal<this, Session | null> {
    return this.signal;
  }

  private follow(context: ISessionContext | null): void {
    if (context === null) {
      return; // a tracker without documents has no say; a closed one says so by its context
    }
    this.context = context;
    context.disposed.connect(this.onDisposed, this);
    context.kernelChanged.connect(this.update, this);
    this.update();
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
