/**
 * The controls that change the mesh: level, window, stream, flush. Each has its effect on this view at
 * once, asks the kernel, and then shows the mesh's true mode, whoever changed it. Level filters where it
 * was chosen only.
 */
import type { IQuery, ISession } from '../core/api';
import type { Mode, Request } from '../core/protocol';
import { button, element, press, select } from './dom';

const LEVELS = [
  ['0', 'All levels'],
  ['10', 'DEBUG'],
  ['20', 'INFO'],
  ['30', 'WARNING'],
  ['40', 'ERROR']
] as const;
const PATIENCE_MS = 250;
const DEFAULT_WINDOW_SEC = 3;

/** What was asked for and is not true yet. */
type Wanted = Partial<Pick<Mode, 'level' | 'window' | 'stream'>>;

export class MeshControls {
  readonly node: HTMLElement;
  private readonly level: HTMLSelectElement;
  private readonly window: HTMLInputElement;
  private readonly seconds: HTMLInputElement;
  private readonly stream: HTMLButtonElement;
  private readonly flushing: HTMLButtonElement;
  private readonly note = element('span', { class: 'lm-pending-note', role: 'status' });
  private wanted: Wanted = {};
  private waiting = 0;
  private seen: Mode | null = null;
  private readonly undo: () => void;

  /** `report` shows a message; `error` tells that it is one. */
  constructor(
    private readonly session: ISession,
    private readonly query: IQuery,
    private readonly report: (text: string, error: boolean) => void
  ) {
    this.level = select('Level: of the mesh, and of the lines shown', LEVELS, value => this.setLevel(Number(value)));
    this.window = element('input', { type: 'checkbox', 'aria-label': 'Aggregate lines in windows' });
    this.seconds = element('input', {
      type: 'number',
      class: 'lm-number',
      min: 1,
      max: 3600,
      step: 1,
      value: DEFAULT_WINDOW_SEC,
      'aria-label': 'Window in seconds',
      title: 'Window in seconds'
    });
    this.window.addEventListener('change', () => this.setWindow(this.window.checked ? this.windowSeconds() : null));
    this.seconds.addEventListener('change', () => {
      if (this.window.checked) {
        this.setWindow(this.windowSeconds());
      }
    });
    this.stream = button('Stream', null, () => this.toggleStream(), {
      text: 'Stream',
      title: 'Stream lines from the hosts; off: they stay there, counted'
    });
    this.flushing = button('Flush', 'flush', () => this.flush(), {
      title: 'Flush: bring everything written so far, and prove it'
    });
    this.node = element(
      'span',
      { class: 'lm-tools lm-mesh', role: 'group', 'aria-label': 'Mesh' },
      this.level,
      element('label', { class: 'lm-check', title: 'Group lines that look alike, in windows of so many seconds' }, this.window, 'Window'),
      this.seconds,
      element('span', { class: 'lm-unit', 'aria-hidden': 'true' }, 's'),
      this.stream,
      this.flushing,
      this.note
    );
    this.undo = session.on('state', () => this.stateChanged());
    this.stateChanged();
  }

  dispose(): void {
    this.undo();
  }

  toggleStream(): void {
    const stream = !(this.wanted.stream ?? this.session.mode?.stream ?? true);
    // A window needs streaming.
    const window = !stream && this.session.mode?.window != null ? { window: null } : {};
    this.ask({ type: 'set_mode', stream, ...window }, { stream, ...window });
  }

  flush(): void {
    this.ask({ type: 'flush' }, {});
  }

  private setLevel(level: number): void {
    this.query.setFilter({ minLevel: level });
    this.ask({ type: 'set_mode', level }, { level });
  }

  private setWindow(window: number | null): void {
    this.query.setGrouped(window !== null);
    this.ask({ type: 'set_mode', window }, { window });
  }

  private windowSeconds(): number {
    const seconds = Math.round(Number(this.seconds.value));
    return seconds >= 1 ? Math.min(3600, seconds) : DEFAULT_WINDOW_SEC;
  }

  private stateChanged(): void {
    const mode = this.session.mode;
    if (mode) {
      // What was printed under an earlier cell stays as it stands there, whatever a later one sets.
      const cell = this.query.filter.cell;
      const current = cell === null || cell >= (this.session.state?.cell ?? 0);
      if (current && (this.seen?.window ?? null) !== mode.window) {
        this.query.setGrouped(mode.window !== null);
      }
      this.seen = { ...mode };
      for (const name of ['level', 'window', 'stream'] as const) {
        if (this.wanted[name] === mode[name]) {
          delete this.wanted[name];
        }
      }
    }
    this.show();
  }

  private show(): void {
    const mode: Wanted = { ...this.session.mode, ...this.wanted };
    const usable = this.session.connected && this.session.state?.mesh !== 'stopped';
    this.showLevel(mode.level ?? this.query.filter.minLevel);
    const window = mode.window ?? null;
    this.window.checked = window !== null;
    if (window !== null && document.activeElement !== this.seconds) {
      this.seconds.value = String(window);
    }
    press(this.stream, mode.stream ?? true);
    for (const control of [this.window, this.seconds, this.stream, this.flushing]) {
      control.disabled = !usable;
    }
    this.level.classList.toggle('lm-pending', this.wanted.level !== undefined);
    this.seconds.classList.toggle('lm-pending', this.wanted.window !== undefined);
    this.stream.classList.toggle('lm-pending', this.wanted.stream !== undefined);
    this.flushing.classList.toggle('lm-pending', this.waiting > 0 && !Object.keys(this.wanted).length);
    this.node.setAttribute('aria-busy', String(this.waiting > 0));
  }

  private showLevel(level: number): void {
    const value = String(level);
    const known = [...this.level.options].some(option => option.value === value);
    if (!known) {
      this.level.append(element('option', { value }, `Level ${level}`));
    }
    this.level.value = value;
  }

  private ask(request: Request, wanted: Wanted): void {
    if (!this.session.connected) {
      this.show();
      return;
    }
    Object.assign(this.wanted, wanted);
    this.waiting += 1;
    const state = this.session.state;
    const late = (): void => {
      this.note.textContent = this.session.state?.busy ? 'applies when the cell ends' : 'asked, no answer yet';
    };
    if (state?.busy && !state.atOnce) {
      late();
    }
    const timer = setTimeout(late, PATIENCE_MS);
    this.show();
    void this.session
      .request(request)
      .then(
        text => this.report(text, false),
        (error: unknown) => {
          for (const name of Object.keys(wanted) as (keyof Wanted)[]) {
            delete this.wanted[name];
          }
          this.report(error instanceof Error ? error.message : String(error), true);
        }
      )
      .then(() => {
        clearTimeout(timer);
        this.waiting -= 1;
        if (!this.waiting) {
          this.note.textContent = '';
          this.wanted = {};
        }
        this.show();
      });
  }
}
