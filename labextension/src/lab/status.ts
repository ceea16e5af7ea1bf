/** The status bar's item: "mesh 8/8 · 1.2k lines/s · 2 errors". */
import { Signal, type ISignal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';
import type { CurrentSession } from './current';
import { statusText } from './status_text';

const UPDATE_MS = 500;

export class MeshStatus extends Widget {
  constructor(
    private readonly current: CurrentSession,
    openPanel: () => void
  ) {
    super();
    this.addClass('jp-LogMesh-status');
    this.button.type = 'button';
    this.button.title = 'Show the log mesh panel';
    this.button.addEventListener('click', openPanel);
    this.node.append(this.button);
    current.changed.connect(this.onChanged, this);
    this.onChanged();
  }

  /** Whether there is a mesh to tell of. */
  readonly isActive = (): boolean => this.current.session !== null;

  get activeChanged(): ISignal<this, void> {
    return this.signal;
  }

  override dispose(): void {
    clearInterval(this.timer);
    Signal.clearData(this);
    super.dispose();
  }

  private onChanged(): void {
    clearInterval(this.timer);
    if (this.current.session !== null) {
      this.timer = setInterval(() => this.refresh(), UPDATE_MS);
      this.refresh();
    }
    this.signal.emit();
  }

  private refresh(): void {
    const { session } = this.current;
    if (session === null) {
      return;
    }
    const text = statusText(session);
    if (text !== this.button.textContent) {
      this.button.textContent = text;
      this.toggleClass('jp-mod-error', session.errors > 0);
    }
  }

  private readonly button = document.createElement('button');
  private readonly signal = new Signal<this, void>(this);
  private timer: ReturnType<typeof setInterval> | undefined;
}
