/**
 * Lines that are alike, as the kernel's templates have it, as groups: by aggregation windows where the
 * mesh has them, else over everything. Groups count held lines and skipped ones.
 *
 * A {@link Fold} reads rows in order, once; new rows at the end are only added, and groups whose
 * templates have become one are joined. When rows come elsewhere, a new one is made beside it in slices,
 * and takes its place when it is done.
 */
import type { Filter } from './api';
import { detached } from './detached';
import { absorb, groupIn, GroupKeys, idOf, readId } from './groups';
import type { Group, GroupWindow } from './groups';
import type { ItemMaker } from './items';
import type { LineStore } from './lines';
import { lowerBound } from './matches';
import type { MatchCache } from './matches';
import type { Scheduler } from './scheduler';
import { RowMark, Segment } from './segment';
import { Skip } from './skips';
import type { Sources } from './sources';
import { OTHERS } from './templates';
import type { Templates } from './templates';

export class Fold {
  readonly windows: GroupWindow[] = [];
  /** How many groups and skips there are. */
  groupCount = 0;
  /** All rows before it have been read. */
  private row = 0;
  private readonly structure: number;
  private readonly splits: number;
  private readonly relevels: number;
  private revision: number;
  private readonly shapes = new Map<Segment, number>();
  private readonly current = new Map<number, GroupWindow>();
  private readonly windowsById = new Map<string, GroupWindow>();
  private readonly keys: GroupKeys;
  private openBlocks: { group: Group; window: GroupWindow }[] = [];

  constructor(
    private readonly store: LineStore,
    private readonly sources: Sources,
    private readonly matches: MatchCache,
    private readonly items: ItemMaker,
    private readonly templates: Templates,
    private readonly cell: Filter['cell'],
    readonly window: number | null
  ) {
    this.structure = store.structure;
    this.splits = templates.splits;
    this.relevels = templates.relevels;
    this.revision = templates.revision;
    this.keys = new GroupKeys(sources);
  }

  /** Whether what was read is still so. */
  get valid(): boolean {
    const { store, templates } = this;
    if (
      this.structure !== store.structure ||
      this.splits !== templates.splits ||
      this.relevels !== templates.relevels
    ) {
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
    this.joinGroups();
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
    this.joinGroups();
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

  /** The group of lines with an id that it has or had, and its window. */
  find(id: string): { window: GroupWindow; group: Group } | undefined {
    const about = readId(id);
    const window = about === null ? undefined : this.windowsById.get(about.window);
    if (about === null || window === undefined) {
      return undefined;
    }
    const template = this.templates.find(about.template);
    const group = window.byKey.get(this.keys.of({ ...about, template }));
    return group && { window, group };
  }

  private groupOf(segment: Segment, index: number): Group | undefined {
    const cell = segment.cell[index] as number;
    const row = segment.first + index;
    for (let at = this.windowsUntil(row) - 1; at >= 0; at -= 1) {
      const window = this.windows[at] as GroupWindow;
      if (window.skip === null && this.covers(window, cell)) {
        return window.byKey.get(this.keys.ofLine(segment, index, segment.roots(this.templates)));
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

  private readSegment(segment: Segment): void {
    const matches = this.matches.of(segment);
    this.shapes.set(segment, segment.shape);
    if (matches === undefined) {
      return;
    }
    const roots = segment.roots(this.templates);
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
      const key = redrawn
        ? `row ${segment.first + index}`
        : this.keys.ofLine(segment, index, roots);
      let group = groupIn(window, key);
      if (group === undefined) {
        group = this.newGroup(window, key, {
          row: segment.first + index,
          target, cell, wall, redrawn,
          template: roots[index] as number,
          job: source.job,
          level: segment.level[index] as number,
          text: detached(segment.shown(index)),
          block: null, textOnly: false
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
      for (const { target, job, cell, text, template, count, ranks, rankList, level, differs } of summary.groups) {
        if (
          !this.matches.passesGroup(target, cell, level, rankList, text) ||
          !this.matches.inTime(first, last)
        ) {
          continue;
        }
        const window = this.windowFor(cell, first, skip.first);
        const root = this.templates.find(template);
        const textOnly = root === OTHERS;
        const key = textOnly
          ? `text ${target} ${level} ${job}\n${text}`
          : this.keys.of({ template: root, target, job, level });
        let group = groupIn(window, key);
        if (group === undefined) {
          group = this.newGroup(window, key, {
            row: skip.first, wall: first, target, job, cell, level, text,
            template: root, block: null, redrawn: false, textOnly
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
        groups: [], byKey: new Map(), byName: new Map(), skip: this.items.skip(skip, this.cell, true)
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
        groups: [], byKey: new Map(), byName: new Map(), skip: null
      };
      this.current.set(scope, window);
      this.windowsById.set(id, window);
      this.windows.push(window);
    }
    return window;
  }

  private newGroup(
    window: GroupWindow,
    key: string | number,
    about: Pick<
      Group,
      'row' | 'target' | 'job' | 'cell' | 'level' | 'text' | 'template' | 'block' | 'redrawn' | 'textOnly'
    > & { wall: number }
  ): Group {
    const { wall, ...rest } = about;
    const group: Group = {
      ...rest,
      id: idOf(window, key, about),
      lastRow: about.row,
      differs: false,
      count: 0,
      held: 0,
      ranks: new Set(),
      lastRank: NaN,
      joins: 0,
      firstWall: wall, lastWall: wall
    };
    window.groups.push(group);
    if (typeof key === 'number') {
      window.byKey.set(key, group);
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
    let group = groupIn(window, key);
    if (group === undefined) {
      const { target, cell, wall } = block;
      const { job } = this.sources.at(block.source);
      group = this.newGroup(window, key, {
        row, target, job, cell, wall, block,
        level: 40, text: '', template: OTHERS,
        redrawn: false, textOnly: false
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
        group.id = idOf(window, key, group);
      } else {
        absorb(same, group);
        window.groups.splice(window.groups.indexOf(group), 1);
        this.groupCount -= 1;
      }
    }
    this.openBlocks = this.openBlocks.filter(({ group }) => group.block?.open);
  }

  /** Groups whose templates have become one, since they were made, are one. */
  private joinGroups(): void {
    const { templates } = this;
    if (this.revision === templates.revision) {
      return;
    }
    this.revision = templates.revision;
    for (const window of this.windows) {
      this.joinIn(window);
    }
  }

  private joinIn(window: GroupWindow): void {
    const moved = [...window.byKey].filter(([, { template }]) => this.templates.find(template) !== template);
    if (moved.length === 0) {
      return;
    }
    const places = new Map(window.groups.map((group, at) => [group, at]));
    const placeOf = (group: Group): number => places.get(group) as number;
    const absorbed = new Set<Group>();
    for (const [key, group] of moved) {
      window.byKey.delete(key);
      group.template = this.templates.find(group.template);
      const now = this.keys.of(group);
      const same = window.byKey.get(now);
      // The one that stands first in the list stays there.
      const stays = same !== undefined && placeOf(same) < placeOf(group) ? same : group;
      const goes = stays === group ? same : group;
      if (goes !== undefined) {
        absorb(stays, goes);
        absorbed.add(goes);
      }
      window.byKey.set(now, stays);
      stays.id = idOf(window, now, stays);
    }
    if (absorbed.size > 0) {
      window.groups = window.groups.filter(group => !absorbed.has(group));
      this.groupCount -= absorbed.size;
    }
  }
}

function isLine(segment: Segment, index: number, text: string): boolean {
  const start = segment.offsets[index] as number;
  const end = (segment.offsets[index + 1] as number) - 1;
  return end - start === text.length && segment.text.startsWith(text, start);
}
