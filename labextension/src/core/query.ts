/**
 * A view's list over a session: filtered, plain or grouped. Reads what has come when the task is over
 * in which it came; long work is done in slices of a few milliseconds.
 */
import type {
  Bin,
  Filter,
  Found,
  GroupValues,
  IQuery,
  Item,
  LevelCounts,
  LineItem,
  LiveItem,
  QueryEvents
} from './api';
import { Emitter } from './emitter';
import { exportLines } from './export';
import { Find } from './find';
import { GroupedList } from './grouped';
import { histogramOf, volumesOf } from './histogram';
import { ItemMaker } from './items';
import { MatchCache, sumLevels } from './matches';
import { PlainList } from './plain';
import type { ItemList } from './plain';
import type { Session } from './session';
import { Skip } from './skips';
import { Values } from './values';

const SLICE_MS = 8;
const PAUSE_MS = 1;

export const EVERYTHING: Readonly<Filter> = {
  cell: null,
  minLevel: 0,
  ranks: null,
  targets: 3,
  hosts: null,
  text: '',
  regex: false,
  matchCase: false,
  time: null
};

export class Query extends Emitter<QueryEvents> implements IQuery {
  private given: Filter;
  private inGroups = false;
  private window: number | null = null;
  private readonly matches: MatchCache;
  private readonly items: ItemMaker;
  private readonly plain: PlainList;
  private readonly groups: GroupedList;
  private readonly slotValues: Values;
  private readonly undo: (() => void)[];
  private readonly finds = new Set<() => void>();
  private live: LiveItem[] = [];
  private due = false;
  private busy = false;
  private disposed = false;
  private stopSlice: (() => void) | null = null;
  private counts = { shown: 0, hidden: 0, notHeld: 0, errors: 0, levels: sumLevels([]) };
  private volume: { most: number; value: { step: number; bins: Bin[] } } | null = null;

  constructor(
    readonly session: Session,
    filter: Partial<Filter> = {}
  ) {
    super();
    const { store, people, templates, scheduler } = session;
    this.given = { ...EVERYTHING, ...filter };
    this.window = this.windowNow;
    this.items = new ItemMaker(store, people, templates);
    this.matches = new MatchCache(store, people, this.given);
    this.plain = new PlainList(store, people, this.matches, this.items);
    this.groups = new GroupedList(store, people, this.matches, this.items, templates);
    this.slotValues = new Values(
      this.groups,
      people,
      templates,
      scheduler,
      of => session.values(of),
      () => this.tell(null)
    );
    this.undo = [
      session.use(),
      session.on('rows', () => this.soon()),
      session.on('live', () => this.soon()),
      session.on('state', () => this.followMode()),
      store.onEvict(segment => this.groups.forget(segment))
    ];
    this.read();
  }

  get filter(): Readonly<Filter> {
    return this.given;
  }

  get grouped(): boolean {
    return this.inGroups;
  }

  get problem(): string {
    return this.matches.problem;
  }

  get length(): number {
    return this.list.length + this.live.length;
  }

  get shown(): number {
    return this.counts.shown;
  }

  get hidden(): number {
    return this.counts.hidden;
  }

  get notHeld(): number {
    return this.counts.notHeld;
  }

  get errors(): number {
    return this.counts.errors;
  }

  get levels(): LevelCounts {
    return this.counts.levels;
  }

  get working(): boolean {
    return this.busy;
  }

  setFilter(change: Partial<Filter>): void {
    this.given = { ...this.given, ...change };
    this.matches.setFilter(this.given);
    this.resetGroups();
    this.read();
    this.tell(null);
  }

  setGrouped(grouped: boolean): void {
    if (grouped !== this.inGroups) {
      this.inGroups = grouped;
      this.resetGroups();
      this.read();
      this.tell(null);
    }
  }

  item(index: number): Item {
    const live = this.live[index - this.list.length];
    return live ?? this.list.item(index);
  }

  indexOf(id: string): number {
    if (id.startsWith('v')) {
      const at = this.live.findIndex(item => item.id === id);
      return at < 0 ? -1 : this.list.length + at;
    }
    return this.list.indexOf(id);
  }

  groupLines(id: string, ranks: ReadonlySet<number> | null, most: number): LineItem[] {
    return this.inGroups ? this.groups.lines(id, ranks, most) : [];
  }

  values(id: string, stored: boolean): GroupValues | null {
    const { ranks, hosts, text, time } = this.given;
    // The kernel knows nothing of filters. All lines of a group have one level and target.
    const unfiltered = ranks === null && hosts === null && text === '' && time === null;
    return this.inGroups ? this.slotValues.of(id, stored && unfiltered) : null;
  }

  dropValues(id: string): void {
    this.slotValues.drop(id);
  }

  histogram(most: number): { step: number; bins: Bin[] } {
    if (this.volume?.most !== most) {
      const notHeld = volumesOf(this.session.store.parts, this.given);
      this.volume = { most, value: histogramOf([...this.matches.all()], most, notHeld) };
    }
    return this.volume.value;
  }

  find(
    text: string,
    options: { regex: boolean; matchCase: boolean },
    found: (search: Found) => void
  ): () => void {
    const search = new Find({ text, ...options });
    let stop: (() => void) | null = null;
    const run = (): void => {
      stop?.();
      const deadline = this.session.scheduler.now() + SLICE_MS;
      const result = search.run(this.list, () => this.session.scheduler.now() >= deadline);
      stop = result.done ? null : this.session.scheduler.later(run, PAUSE_MS);
      found(result);
    };
    this.finds.add(run);
    stop = this.session.scheduler.later(run, 0);
    return () => {
      this.finds.delete(run);
      stop?.();
    };
  }

  nextError(index: number, direction: 1 | -1): number {
    const { length } = this.list;
    if (direction < 0) {
      for (let at = Math.min(index, this.length) - 1; at >= length; at -= 1) {
        if ((this.live[at - length]?.level ?? 0) >= 40) {
          return at;
        }
      }
      return this.list.nextError(Math.min(index, length), -1);
    }
    const next = this.list.nextError(index, 1);
    if (next >= 0) {
      return next;
    }
    const at = this.live.findIndex(
      (item, number) => length + number > index && item.level >= 40
    );
    return at < 0 ? -1 : length + at;
  }

  export(format: 'text' | 'jsonl'): Blob {
    this.matches.update(this.session.scheduler, Infinity);
    return exportLines(format, this.session.store, this.session.people, this.matches, this.given);
  }

  dispose(): void {
    this.disposed = true;
    this.stopSlice?.();
    this.finds.clear();
    this.slotValues.clear();
    for (const undo of this.undo) {
      undo();
    }
    this.clearListeners();
  }

  private get list(): ItemList {
    return this.inGroups ? this.groups : this.plain;
  }

  private resetGroups(): void {
    this.slotValues.clear();
    if (this.inGroups) {
      this.groups.reset(this.given.cell, this.window);
    } else {
      this.groups.clear();
    }
  }

  /** What was printed under an earlier cell stays as it stands there, whatever a later one sets. */
  private get windowNow(): number | null {
    const { mode, state } = this.session;
    const { cell } = this.given;
    return cell === null || cell >= (state?.cell ?? 0) ? (mode?.window ?? null) : this.window;
  }

  private followMode(): void {
    const window = this.windowNow;
    if (window !== this.window) {
      this.window = window;
      this.resetGroups();
      this.soon();
    }
  }

  /** Read what is new when the task that runs now is over. */
  private soon(): void {
    if (!this.due) {
      this.due = true;
      this.session.scheduler.soon(() => {
        this.due = false;
        if (!this.disposed) {
          const before = this.length;
          this.tell(this.read() ? this.length - before : null);
        }
      });
    }
  }

  /** Do a slice of what there is to do. True where items were added at the end at most. */
  private read(): boolean {
    const { scheduler } = this.session;
    const deadline = scheduler.now() + SLICE_MS;
    const wasBusy = this.busy;
    const before = this.live;
    let done = this.matches.update(scheduler, deadline);
    let grown = false;
    if (this.inGroups) {
      done = done && this.groups.update(scheduler, deadline);
    } else {
      grown = this.plain.update(this.given.cell);
    }
    this.volume = null;
    this.live = this.session.live
      .map(line => this.items.live(line))
      .filter(({ source, target, cell, level, text }) =>
        this.matches.passes(this.session.people.indexOf(source.id), target, cell, level, text)
      );
    this.sum();
    this.busy = !done;
    this.stopSlice?.();
    this.stopSlice = done ? null : scheduler.later(() => this.slice(), PAUSE_MS);
    return grown && !wasBusy && done && before.length === 0 && this.live.length === 0;
  }

  private slice(): void {
    this.stopSlice = null;
    this.read();
    this.tell(null);
  }

  private sum(): void {
    let shown = 0;
    let total = 0;
    const all = [...this.matches.all()];
    for (const matches of all) {
      shown += matches.shown;
      total += matches.total;
    }
    const levels = sumLevels(all);
    let errors = levels[4] + levels[5];
    let notHeld = 0;
    const { cell } = this.given;
    for (const part of this.session.store.parts) {
      if (part instanceof Skip) {
        // Of rows that were lost on the way, nobody knows yet whether they are of the cell.
        notHeld += cell !== null && part.summary.empty ? 0 : part.linesOf(cell);
        errors += part.tells ? part.summary.errorsOf(cell) : 0;
      }
    }
    this.counts = { shown, hidden: Math.max(0, total - shown), notHeld, errors, levels };
  }

  /** Tell how many items were added at the end, or (null) that anything may be different. */
  private tell(grown: number | null): void {
    if (grown === null) {
      this.emit('changed', undefined);
    } else if (grown > 0) {
      this.emit('grown', grown);
    }
    for (const run of [...this.finds]) {
      run();
    }
  }
}
