/**
 * One small cell per rank: its state by colour and sign, its figures in the tooltip. A click filters to
 * the rank. Built for thousands: one listener for all, and an update touches only what changed.
 */
import type { ISession, Proc } from '../core/api';
import { element } from './dom';
import { age, count, lines, short } from './format';
import { toText } from './sanitize';

/** With more ranks than this the cells hold no numbers. */
const MOST_NUMBERED = 64;
/** With more than this they are as small as can be hit. */
const MOST_SMALL = 600;

const SIGNS: Record<string, string> = { running: '', late: '◷', done: '✓', failed: '✕', killed: '☠', lost: '?' };

/** What a rank's cell shows: that of the mesh's proc or, where all commands of the rank tell more, theirs. */
export function procLook(proc: Proc): string {
  return proc.state === 'exited' ? (proc.code === 0 || proc.code === null ? 'done' : 'failed') : proc.state;
}

/** A proc in words. */
export function procText(proc: Proc): string {
  const state =
    proc.state === 'exited' && proc.code !== null
      ? `exited ${proc.code}`
      : proc.state === 'killed' && proc.code !== null
        ? `killed by ${toText(String(proc.code))}`
        : proc.state;
  const parts = [
    `rank ${proc.rank}${proc.job ? `, ${toText(proc.job)}` : ''}: ${state}`,
    `${lines(proc.lines)}, ${short(proc.rate)} lines/s`,
    `last output ${proc.age < 1.5 ? 'now' : Number.isFinite(proc.age) ? `${age(proc.age)} ago` : 'never'}`,
    `host ${toText(proc.host)}, pid ${proc.pid}`
  ];
  if (proc.skipped) {
    parts.push(`${count(proc.skipped)} skipped`);
  }
  if (proc.lost) {
    parts.push(`${count(proc.lost)} lost`);
  }
  return parts.join('\n');
}

interface Cell {
  node: HTMLButtonElement;
  procs: Proc[];
  look: string;
}

export class ProcStrip {
  readonly node = element('div', { class: 'lm-procs', role: 'group', 'aria-label': 'Ranks' });
  private readonly cells = new Map<number, Cell>();
  private order: number[] = [];
  private last: number | null = null;
  private focused = 0;
  private readonly undo: () => void;
  private shown = false;

  /** `choose` gets the ranks to show; null: all. */
  constructor(
    private readonly session: ISession,
    private chosen: ReadonlySet<number> | null,
    private readonly choose: (ranks: ReadonlySet<number> | null) => void
  ) {
    this.node.addEventListener('click', event => {
      const rank = this.rankAt(event.target);
      if (rank !== null) {
        this.clicked(rank, event.ctrlKey || event.metaKey, event.shiftKey);
      }
    });
    this.node.addEventListener('pointerover', event => this.describe(event.target));
    this.node.addEventListener('focusin', event => {
      this.describe(event.target);
      const rank = this.rankAt(event.target);
      this.rove(rank === null ? 0 : this.order.indexOf(rank));
    });
    this.node.addEventListener('keydown', event => this.keyed(event));
    this.undo = session.on('procs', () => this.update());
    this.node.hidden = true;
  }

  /** Hidden it costs nothing. */
  setShown(shown: boolean): void {
    if (shown !== this.shown) {
      this.shown = shown;
      this.update();
    }
  }

  dispose(): void {
    this.undo();
  }

  /** Shows which ranks the filter lets through. */
  mark(ranks: ReadonlySet<number> | null): void {
    this.chosen = ranks;
    for (const [rank, cell] of this.cells) {
      cell.node.setAttribute('aria-pressed', String(ranks?.has(rank) === true));
    }
    this.node.classList.toggle('lm-some', ranks !== null);
  }

  private update(): void {
    if (!this.shown) {
      this.node.hidden = true;
      return;
    }
    const byRank = new Map<number, Proc[]>();
    for (const proc of this.session.procs) {
      const procs = byRank.get(proc.rank);
      if (procs) {
        procs.push(proc);
      } else {
        byRank.set(proc.rank, [proc]);
      }
    }
    const order = [...byRank.keys()].sort((left, right) => left - right);
    const same = order.length === this.order.length && order.every((rank, index) => rank === this.order[index]);
    if (!same) {
      this.order = order;
      this.cells.clear();
      this.node.replaceChildren();
    }
    const numbered = order.length <= MOST_NUMBERED;
    this.node.classList.toggle('lm-dense', !numbered);
    this.node.classList.toggle('lm-tiny', order.length > MOST_SMALL);
    for (const [rank, procs] of byRank) {
      this.show(rank, procs, numbered);
    }
    if (!same) {
      this.node.append(...order.map(rank => this.cells.get(rank)?.node ?? ''));
      this.mark(this.chosen);
      this.rove(Math.min(this.focused, order.length - 1));
    }
    this.node.hidden = !order.length;
  }

  private show(rank: number, procs: Proc[], numbered: boolean): void {
    // Commands come and go; what counts is the proc that they run beside.
    const own = procs.find(proc => proc.job === '');
    const late = procs.find(proc => proc.state === 'late');
    const worst = own && own.state !== 'running' ? own : (late ?? own ?? procs.find(proc => procLook(proc) !== 'running') ?? procs[0]);
    if (!worst) {
      return;
    }
    let cell = this.cells.get(rank);
    if (!cell) {
      const node = element('button', { type: 'button', class: 'lm-proc', 'data-rank': rank, tabindex: -1 });
      cell = { node, procs, look: '' };
      this.cells.set(rank, cell);
    }
    cell.procs = procs;
    const quiet = worst.state === 'running' && worst.rate === 0;
    const look = `${procLook(worst)}${quiet ? ' lm-quiet' : ''}`;
    if (look !== cell.look) {
      cell.look = look;
      cell.node.className = `lm-proc lm-proc-${look}`;
      const sign = SIGNS[procLook(worst)] ?? '';
      cell.node.textContent = numbered ? `${rank}${sign && ` ${sign}`}` : sign;
      cell.node.setAttribute('aria-label', `rank ${rank}, ${procText(worst).split('\n')[0]?.split(': ')[1] ?? ''}`);
    }
  }

  private describe(target: EventTarget | null): void {
    const rank = this.rankAt(target);
    const cell = rank === null ? undefined : this.cells.get(rank);
    if (cell) {
      cell.node.title = cell.procs.map(procText).join('\n\n');
    }
  }

  private rankAt(target: EventTarget | null): number | null {
    const node = target instanceof Element ? target.closest<HTMLElement>('.lm-proc') : null;
    return node?.dataset['rank'] === undefined ? null : Number(node.dataset['rank']);
  }

  private clicked(rank: number, add: boolean, range: boolean): void {
    this.choose(this.choice(rank, add, range));
    this.last = rank;
  }

  private choice(rank: number, add: boolean, range: boolean): ReadonlySet<number> | null {
    if (range && this.last !== null) {
      const [first, last] = [Math.min(rank, this.last), Math.max(rank, this.last)];
      const within = this.order.filter(other => other >= first && other <= last);
      return new Set([...(this.chosen ?? []), ...within]);
    }
    if (add) {
      const ranks = new Set(this.chosen ?? []);
      if (!ranks.delete(rank)) {
        ranks.add(rank);
      }
      return ranks.size ? ranks : null;
    }
    return this.chosen?.size === 1 && this.chosen.has(rank) ? null : new Set([rank]);
  }

  private rove(index: number): void {
    this.cellAt(this.focused)?.setAttribute('tabindex', '-1');
    this.focused = Math.max(0, index);
    this.cellAt(this.focused)?.setAttribute('tabindex', '0');
  }

  private cellAt(index: number): HTMLElement | undefined {
    const rank = this.order[index];
    return rank === undefined ? undefined : this.cells.get(rank)?.node;
  }

  private keyed(event: KeyboardEvent): void {
    const steps: Record<string, number> = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: this.perLine(),
      ArrowUp: -this.perLine(),
      Home: -Infinity,
      End: Infinity
    };
    const step = steps[event.key];
    if (step === undefined) {
      return;
    }
    const to = Math.min(this.order.length - 1, Math.max(0, this.focused + step));
    this.rove(to);
    this.cellAt(to)?.focus();
    event.preventDefault();
    event.stopPropagation();
  }

  private perLine(): number {
    const first = this.cellAt(0);
    const width = first?.offsetWidth ?? 0;
    return width ? Math.max(1, Math.floor(this.node.clientWidth / (width + 2))) : 1;
  }
}
