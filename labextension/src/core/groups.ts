/**
 * Lines that say the same but for their numbers, as groups: by aggregation windows where the mesh has
 * them, else over everything. Groups count held lines and skipped ones.
 *
 * A {@link Fold} reads rows in order, once; new rows at the end are only added. When rows come
 * elsewhere, a new one is made beside it in slices, and takes its place when it is done.
 */
import type { Filter, SkipItem } from './api';
import type { ItemMaker } from './items';
import { detached, templateHash, templateOf } from './patterns';
import type { LineStore } from './lines';
import { lowerBound } from './matches';
import type { MatchCache } from './matches';
import type { Scheduler } from './scheduler';
import { RowMark, Segment } from './segment';
import { Skip } from './skips';
import type { Sources } from './sources';
import type { Block } from './tracebacks';

export interface Group {
  id: string;
  /** Row of its first line. */
  readonly row: number;
  lastRow: number;
  readonly target: number;
  readonly job: string;
  readonly cell: number;
  readonly level: number;
  /** Text of its first line; of a skip's group perhaps a template. */
  readonly text: string;
  readonly hash: number;
  differs: boolean;
  count: number;
  held: number;
  readonly ranks: Set<number>;
  /** The rank that was added last. */
  lastRank: number;
  firstWall: number;
  lastWall: number;
  /** Set where it stands for blocks, or for one line that is redrawn. */
  readonly block: Block | null;
  readonly redrawn: boolean;
}

/** Groups that belong together; or a skip that stands between them. */
export interface GroupWindow {
  readonly id: string;
  readonly cell: number;
  readonly row: number;
  /** Wall time of the line that opened it. */
  readonly opened: number;
  firstWall: number;
  lastWall: number;
  lines: number;
  readonly groups: Group[];
  /** Of lines, by template and stream. */
  readonly byHash: Map<number, Group>;
  /** Blocks and lines that are redrawn. */
  readonly byName: Map<string, Group>;
  /** As it was when it was read: lines that leave the page later stay counted in their groups. */
  readonly skip: SkipItem | null;
}

export class Fold {
  readonly windows: GroupWindow[] = [];
  /** How many groups and skips there are. */
  groupCount = 0;
  /** All rows before it have been read. */
  private row = 0;
  private readonly structure: number;
  private readonly shapes = new Map<Segment, number>();
  private readonly current = new Map<number, GroupWindow>();
  private readonly salts: number[] = [];
  private openBlocks: { group: Group; window: GroupWindow }[] = [];

  constructor(
    private readonly store: LineStore,
    private readonly sources: Sources,
    private readonly matches: MatchCache,
    private readonly items: ItemMaker,
    private readonly cell: Filter['cell'],
    readonly window: number | null
  ) {
    this.structure = store.structure;
  }

  /** Whether what was read is still so. */
  get valid(): boolean {
    if (this.structure !== this.store.structure) {
      return false;
    }
    for (const [segment, shape] of this.shapes) {
      if (segment.shape !== shape) {
        return false;
      }
    }
    // Skips that have been joined: what was read of the first would be read again.
    const part = this.store.parts[this.store.indexOf(this.row)];
    return !(part instanceof Skip && part.first < this.row);
  }

  /** Read on until the end or the deadline. True at the end. */
  advance(scheduler: Scheduler, deadline: number): boolean {
    this.closeBlocks();
    const { store } = this;
    this.row = Math.max(this.row, store.first);
    while (this.row < store.end) {
      const part = store.parts[store.indexOf(this.row)];
      if (part instanceof Segment) {
        this.readSegment(part);
      } else if (part instanceof Skip) {
        this.readSkip(part);
      }
      this.row = part?.end ?? store.end;
      if (this.row < store.end && scheduler.now() >= deadline) {
        return false;
      }
    }
    return true;
  }

  /** A segment leaves: its lines stay counted, but are not held any more. */
  forget(segment: Segment): void {
    this.shapes.delete(segment);
    const matches = this.matches.of(segment);
    if (matches === undefined) {
      return;
    }
    for (const index of matches.rows) {
      if (segment.first + index < this.row) {
        const group = this.groupOf(segment, index);
        if (group !== undefined && group.held > 0) {
          group.held -= 1;
        }
      }
    }
  }

  private groupOf(segment: Segment, index: number): Group | undefined {
    const cell = segment.cell[index] as number;
    const row = segment.first + index;
    for (let at = this.windowsUntil(row) - 1; at >= 0; at -= 1) {
      const window = this.windows[at] as GroupWindow;
      if (window.skip === null && this.covers(window, cell)) {
        return window.byHash.get(
          (segment.templates()[index] as number) +
            this.saltOf(segment.source[index] as number, segment.target[index] as number)
        );
      }
    }
    return undefined;
  }

  /** How many windows begin at a row or before it; they are in the order of rows. */
  private windowsUntil(row: number): number {
    let low = 0;
    let high = this.windows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.windows[middle] as GroupWindow).row <= row) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  private covers(window: GroupWindow, cell: number): boolean {
    return window.cell === cell || (this.cell === null && this.window === null);
  }

  /** Tells groups of the same text apart that are of other targets or jobs. */
  private saltOf(source: number, target: number): number {
    const at = source * 4 + target;
    let salt = this.salts[at];
    if (salt === undefined) {
      salt = saltOf(target, this.sources.at(source).job);
      this.salts[at] = salt;
    }
    return salt;
  }

  private readSegment(segment: Segment): void {
    const matches = this.matches.of(segment);
    this.shapes.set(segment, segment.shape);
    if (matches === undefined) {
      return;
    }
    const hashes = segment.templates();
    const { rows } = matches;
    for (let at = lowerBound(rows, this.row - segment.first); at < rows.length; at += 1) {
      const index = rows[at] as number;
      const cell = segment.cell[index] as number;
      const wall = segment.wall[index] as number;
      const window = this.windowFor(cell, wall, segment.first + index);
      const mark = segment.marks[index] as number;
      if (mark & RowMark.head) {
        this.addBlock(window, segment, index);
        continue;
      }
      const source = this.sources.at(segment.source[index] as number);
      const target = segment.target[index] as number;
      const redrawn = (mark & RowMark.redrawn) !== 0;
      const hash = hashes[index] as number;
      const key = redrawn
        ? `row ${segment.first + index}`
        : hash + this.saltOf(segment.source[index] as number, target);
      let group = find(window, key);
      if (group === undefined) {
        group = this.newGroup(window, key, {
          row: segment.first + index,
          target, cell, wall, redrawn, hash,
          job: source.job,
          level: segment.level[index] as number,
          text: detached(segment.shown(index)),
          block: null
        });
      } else if (!group.differs && !isLine(segment, index, group.text)) {
        group.differs = true;
      }
      group.lastRow = segment.first + index;
      group.held += 1;
      this.count(window, group, 1, wall, wall);
      if (group.lastRank !== source.rank) {
        group.lastRank = source.rank;
        group.ranks.add(source.rank);
      }
    }
  }

  private readSkip(skip: Skip): void {
    const { summary } = skip;
    const [first, last] = summary.wall;
    if (skip.tells) {
      for (const { target, job, cell, text, count, ranks, rankList, level, differs } of summary.groups) {
        if (
          !this.matches.passesGroup(target, cell, level, rankList, text) ||
          !this.matches.inTime(first, last)
        ) {
          continue;
        }
        const window = this.windowFor(cell, first, skip.first);
        const hash = templateHash(text, 0, text.length);
        const key = hash + saltOf(target, job);
        let group = find(window, key);
        if (group === undefined) {
          group = this.newGroup(window, key, {
            row: skip.first, wall: first, target, job, cell, level, text, hash,
            block: null, redrawn: false
          });
          group.differs = differs;
        } else if (!group.differs && (differs || group.text !== text)) {
          group.differs = true;
        }
        group.lastRow = skip.end - 1;
        this.count(window, group, count, first, last);
        for (const rank of ranks === '' ? [] : rankList) {
          group.ranks.add(rank);
        }
      }
    }
    if (skip.othersOf(this.cell) > 0 && (!last || this.matches.inTime(first, last))) {
      this.windows.push({
        id: `s${skip.first}`, cell: -1, row: skip.first, opened: first, firstWall: first, lastWall: last, lines: 0,
        groups: [], byHash: new Map(), byName: new Map(), skip: this.items.skip(skip, this.cell, true)
      });
      this.groupCount += 1;
    }
  }

  private windowFor(cell: number, wall: number, row: number): GroupWindow {
    const scope = this.cell === null && this.window === null ? -1 : cell;
    let window = this.current.get(scope);
    if (
      window === undefined ||
      (this.window !== null && wall >= window.opened + this.window)
    ) {
      const id = this.window === null ? `w${scope}` : `w${scope}.${row}`;
      window = {
        id, cell, row, opened: wall, firstWall: wall, lastWall: wall, lines: 0,
        groups: [], byHash: new Map(), byName: new Map(), skip: null
      };
      this.current.set(scope, window);
      this.windows.push(window);
    }
    return window;
  }

  private newGroup(
    window: GroupWindow,
    key: string | number,
    about: Pick<
      Group,
      'row' | 'target' | 'job' | 'cell' | 'level' | 'text' | 'hash' | 'block' | 'redrawn'
    > & { wall: number }
  ): Group {
    const { wall, ...rest } = about;
    const group: Group = {
      ...rest,
      id: `g${window.id} ${key}`,
      lastRow: about.row,
      differs: false,
      count: 0,
      held: 0,
      ranks: new Set(),
      lastRank: NaN,
      firstWall: wall,
      lastWall: wall
    };
    window.groups.push(group);
    if (typeof key === 'number') {
      window.byHash.set(key, group);
    } else {
      window.byName.set(key, group);
    }
    this.groupCount += 1;
    return group;
  }

  private count(window: GroupWindow, group: Group, lines: number, first: number, last: number): void {
    group.count += lines;
    group.firstWall = Math.min(group.firstWall, first);
    group.lastWall = Math.max(group.lastWall, last);
    window.lines += lines;
    window.firstWall = Math.min(window.firstWall, first);
    window.lastWall = Math.max(window.lastWall, last);
  }

  private addBlock(window: GroupWindow, segment: Segment, index: number): void {
    const row = segment.first + index;
    const block = segment.blocks.find(each => each.head === row);
    if (block === undefined) {
      return;
    }
    const key = block.open ? `open ${row}` : `block ${block.key}`;
    let group = find(window, key);
    if (group === undefined) {
      const { target, cell, wall } = block;
      const { job } = this.sources.at(block.source);
      group = this.newGroup(window, key, {
        row, target, job, cell, wall, block,
        level: 40,
        text: '',
        hash: 0,
        redrawn: false
      });
      if (block.open) {
        this.openBlocks.push({ group, window });
      }
    }
    this.count(window, group, 1, block.wall, block.wall);
    group.held += 1;
    group.ranks.add(this.sources.at(block.source).rank);
  }

  /** Blocks that have ended since: with those that say the same. */
  private closeBlocks(): void {
    for (const { group, window } of this.openBlocks) {
      if (group.block === null || group.block.open) {
        continue;
      }
      const key = `block ${group.block.key}`;
      const same = window.byName.get(key);
      window.byName.delete(`open ${group.row}`);
      if (same === undefined) {
        window.byName.set(key, group);
        group.id = `g${window.id} ${key}`;
      } else {
        same.count += group.count;
        same.held += group.held;
        same.lastWall = Math.max(same.lastWall, group.lastWall);
        for (const rank of group.ranks) {
          same.ranks.add(rank);
        }
        window.groups.splice(window.groups.indexOf(group), 1);
        this.groupCount -= 1;
      }
    }
    this.openBlocks = this.openBlocks.filter(({ group }) => group.block?.open);
  }
}

/** The text that a group shows. */
export function textOf(group: Group): string {
  return group.differs ? templateOf(group.text) : group.text;
}

function find(window: GroupWindow, key: string | number): Group | undefined {
  return typeof key === 'number' ? window.byHash.get(key) : window.byName.get(key);
}

function saltOf(target: number, job: string): number {
  const name = `${target} ${job}`;
  // Not as a template: the jobs' numbers count.
  return templateHash(name.replace(/\d/g, digit => String.fromCharCode(digit.charCodeAt(0) + 49)), 0, name.length);
}

function isLine(segment: Segment, index: number, text: string): boolean {
  const start = segment.offsets[index] as number;
  const end = (segment.offsets[index + 1] as number) - 1;
  return end - start === text.length && segment.text.startsWith(text, start);
}
