/** Stand-ins for the core: a session that records what it is asked, a query over given items. */
import { vi } from 'vitest';
import type {
  Filter,
  Found,
  GroupValues,
  IQuery,
  ISession,
  Item,
  LevelCounts,
  LineItem,
  Proc,
  QueryEvents,
  Receipt,
  SessionEvents,
  Source
} from '../../src/core/api';
import { Emitter } from '../../src/core/emitter';
import type { Mode, Request, StateMessage } from '../../src/core/protocol';

export function source(rank: number, host = 'host'): Source {
  return { id: rank, rank, job: '', host, pid: 100 + rank };
}

export function proc(rank: number, change: Partial<Proc> = {}): Proc {
  return { ...source(rank), state: 'running', code: null, lines: 10, rate: 1, age: 2, skipped: 0, lost: 0, ...change };
}

export function line(row: number, text: string, change: Partial<LineItem> = {}): LineItem {
  return {
    kind: 'line',
    id: `row ${row}`,
    row,
    source: source(row % 4),
    target: 1,
    job: '',
    level: 0,
    cell: 1,
    wall: 1_790_000_000 + row,
    text,
    note: '',
    continued: false,
    shortened: false,
    ...change
  };
}

export const MODE: Mode = { stream: true, window: null, level: 20, autoflush: true };

interface Asked {
  request: Request;
  answer(text: string): void;
  refuse(error: Error): void;
}

export class FakeSession extends Emitter<SessionEvents> implements ISession {
  readonly id = 'session';
  connected = true;
  state: StateMessage | null = null;
  sources = new Map<number, Source>([[0, source(0)]]);
  procs: Proc[] = [];
  lastReceipt: Receipt | null = null;
  rows = 0;
  rate = 0;
  errors = 0;
  readonly asked: Asked[] = [];
  readonly fetch = vi.fn(() => Promise.resolve());
  readonly values = vi.fn<ISession['values']>(() => Promise.resolve({ values: [], lines: 0, whole: false }));
  readonly download = vi.fn(() => Promise.resolve({ name: 'all.txt', blob: new Blob(['all']) }));

  get mode(): Mode | null {
    return this.state?.mode ?? null;
  }

  override emit<Name extends keyof SessionEvents>(name: Name, value: SessionEvents[Name]): void {
    super.emit(name, value);
  }

  setState(mode: Partial<Mode>, change: Partial<StateMessage> = {}): void {
    this.state = {
      logmesh: 1,
      session: this.id,
      n: 0,
      type: 'state',
      mesh: 'running',
      host: 'host',
      atOnce: true,
      rows: 0,
      cell: 1,
      busy: false,
      trouble: '',
      ...this.state,
      ...change,
      mode: { ...MODE, ...this.state?.mode, ...mode }
    };
    this.emit('state', undefined);
  }

  receipt(): Receipt | null {
    return this.lastReceipt;
  }

  request(request: Request): Promise<string> {
    return new Promise((answer, refuse) => this.asked.push({ request, answer, refuse }));
  }
}

export class FakeQuery extends Emitter<QueryEvents> implements IQuery {
  filter: Filter = {
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
  grouped = false;
  problem = '';
  hidden = 0;
  notHeld = 0;
  errors = 0;
  levels: LevelCounts = [0, 0, 0, 0, 0, 0];
  working = false;
  readonly dispose = vi.fn();
  readonly values = vi.fn((): GroupValues | null => null);
  readonly dropValues = vi.fn<IQuery['dropValues']>();
  /** By the ids of items that have become part of others: the ids of those. */
  readonly became = new Map<string, string>();

  constructor(
    readonly session: ISession,
    public items: Item[] = []
  ) {
    super();
  }

  get length(): number {
    return this.items.length;
  }

  get shown(): number {
    return this.items.filter(({ kind }) => kind !== 'skip').length;
  }

  override emit<Name extends keyof QueryEvents>(name: Name, value: QueryEvents[Name]): void {
    super.emit(name, value);
  }

  setFilter(change: Partial<Filter>): void {
    this.filter = { ...this.filter, ...change };
    this.emit('changed', undefined);
  }

  setGrouped(grouped: boolean): void {
    this.grouped = grouped;
    this.emit('changed', undefined);
  }

  item(index: number): Item {
    const item = this.items[index];
    if (!item) {
      throw new RangeError(`no item ${index}`);
    }
    return item;
  }

  indexOf(id: string): number {
    const now = this.became.get(id) ?? id;
    return this.items.findIndex(item => item.id === now);
  }

  /** Some items become one, in the place of the first. */
  join(ids: readonly string[], into: Item): void {
    this.items[this.indexOf(ids[0] ?? '')] = into;
    for (const id of ids) {
      this.became.set(id, into.id);
    }
    this.items = this.items.filter(({ id }) => !ids.includes(id));
    this.emit('changed', undefined);
  }

  groupLines(): LineItem[] {
    return [line(100, 'in the group')];
  }

  histogram(): ReturnType<IQuery['histogram']> {
    return { step: 1, bins: [] };
  }

  find(text: string, _options: unknown, found: (search: Found) => void): () => void {
    const ids = this.items.filter(item => 'text' in item && item.text.includes(text)).map(item => item.id);
    found({ ids, done: true, problem: '' });
    return () => undefined;
  }

  nextError(): number {
    return -1;
  }

  export(): Blob {
    return new Blob(['shown']);
  }
}

/** Lets promises settle. */
export async function settled(): Promise<void> {
  for (let round = 0; round < 5; round += 1) {
    await Promise.resolve();
  }
}
