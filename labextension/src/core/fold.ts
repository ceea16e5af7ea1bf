/**
 * Lines that are alike, as the kernel's templates have it, as groups (see {@link Windows}). Groups count
 * held lines and skipped ones.
 *
 * A {@link Fold} reads rows in order, once; new rows at the end are only added, and groups whose
 * templates have become one are joined. When rows come elsewhere, a new one is made beside it in slices,
 * and takes its place when it is done.
 */
import type { Filter } from './api';
import { detached } from './detached';
import { groupIn } from './groups';
import type { Group, GroupKeys, GroupWindow } from './groups';
import type { ItemMaker } from './items';
import type { LineStore } from './lines';
import { lowerBound } from './matches';
import type { MatchCache } from './matches';
import type { Scheduler } from './scheduler';
import { RowMark, Segment } from './segment';
import type { SkipGroup } from './skipgroups';
import { Skip } from './skips';
import type { Sources } from './sources';
import { OTHERS } from './templates';
import type { Templates } from './templates';
import { count, Windows } from './windows';

export class Fold {
  /** All rows before it have been read. */
  private row = 0;
  private readonly structure: number;
  private readonly sourcesAt: number;
  private readonly splits: number;
  private readonly relevels: number;
  private readonly shapes = new Map<Segment, number>();
  private readonly made: Windows;
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
    this.sourcesAt = sources.version;
    this.splits = templates.splits;
    this.relevels = templates.relevels;
    this.made = new Windows(sources, templates, cell, window);
    this.keys = this.made.keys;
  }

  get windows(): readonly GroupWindow[] {
    return this.made.list;
  }

  /** How many groups and skips there are. */
  get groupCount(): number {
    return this.made.groupCount;
  }

  /** Whether what was read is still so. */
  get valid(): boolean {
    const { store, sources, templates } = this;
    if (
      this.structure !== store.structure ||
      this.sourcesAt !== sources.version ||
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
    this.made.join();
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
    this.made.join();
    this.shapes.delete(segment);
    const matches = this.matches.of(segment);
    if (matches === undefined) {
      return;
    }
    const roots = segment.roots(this.templates);
    for (const index of matches.rows) {
      const row = segment.first + index;
      if (row >= this.row || (segment.marks[index] as number) & RowMark.head) {
        continue;
      }
      const window = this.made.windowAt(row, segment.cell[index] as number);
      const group = window && groupIn(window, this.keyOf(segment, index, roots));
      if (group !== undefined && group.held > 0) {
        group.held -= 1;
      }
    }
  }

  /** See {@link Windows.find}. */
  find(id: string): { window: GroupWindow; group: Group } | undefined {
    return this.made.find(id);
  }

  /** Of a line that is none of a block. */
  private keyOf(segment: Segment, index: number, roots: Uint32Array): string | number {
    return (segment.marks[index] as number) & RowMark.redrawn
      ? `row ${segment.first + index}`
      : this.keys.ofLine(segment, index, roots);
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
      const row = segment.first + index;
      const cell = segment.cell[index] as number;
      const wall = segment.wall[index] as number;
      const window = this.made.windowOf(cell, wall, row);
      const mark = segment.marks[index] as number;
      if (mark & RowMark.head) {
        this.addBlock(window, segment, index);
        continue;
      }
      const source = this.sources.at(segment.source[index] as number);
      const key = this.keyOf(segment, index, roots);
      let group = groupIn(window, key);
      if (group === undefined) {
        group = this.made.addGroup(window, key, {
          row, cell, wall,
          target: segment.target[index] as number,
          redrawn: (mark & RowMark.redrawn) !== 0,
          template: roots[index] as number,
          job: source.job,
          level: segment.level[index] as number,
          text: detached(segment.shown(index)),
          block: null, textOnly: false
        });
      } else if (!group.differs && !segment.says(index, group.text)) {
        group.differs = true;
      }
      group.lastRow = row;
      group.held += 1;
      count(window, group, 1, wall, wall);
      if (group.lastRank !== source.rank) {
        group.lastRank = source.rank;
        group.ranks.add(source.rank);
      }
    }
  }

  private readSkip(skip: Skip): void {
    const { groups, wall } = skip.summary;
    const judged: SkipGroup[] = [];
    for (const group of groups) {
      const passes = this.matches.judge(group, wall);
      if (passes && skip.tells) {
        this.addSkipped(skip, group);
      }
      if (passes !== null) {
        judged.push(group);
      }
    }
    if (skip.linesOf(this.cell, judged) > 0 && (!wall[1] || this.matches.inTime(...wall))) {
      this.made.addSkip(this.items.skip(skip, this.cell, judged), skip.first);
    }
  }

  private addSkipped(skip: Skip, told: SkipGroup): void {
    const { target, job, cell, text, level, differs } = told;
    const [first, last] = skip.summary.wall;
    const window = this.made.windowOf(cell, first, skip.first);
    const template = this.templates.find(told.template);
    const textOnly = template === OTHERS;
    const key = textOnly
      ? `text ${target} ${level} ${job}\n${text}`
      : this.keys.of({ template, target, job, level });
    let group = groupIn(window, key);
    if (group === undefined) {
      group = this.made.addGroup(window, key, {
        row: skip.first, wall: first, target, job, cell, level, text, template,
        block: null, redrawn: false, textOnly
      });
      group.differs = differs;
    } else if (!group.differs && (differs || group.text !== text)) {
      group.differs = true;
    }
    group.lastRow = skip.end - 1;
    count(window, group, told.count, first, last);
    for (const rank of told.rankList) {
      group.ranks.add(rank);
    }
  }

  private addBlock(window: GroupWindow, segment: Segment, index: number): void {
    const row = segment.first + index;
    const block = segment.blocks.find(each => each.head === row);
    if (block === undefined) {
      return;
    }
    const key = block.open ? openName(row) : `block ${block.key}`;
    let group = groupIn(window, key);
    if (group === undefined) {
      const { target, cell, wall } = block;
      const { job } = this.sources.at(block.source);
      group = this.made.addGroup(window, key, {
        row, target, job, cell, wall, block,
        level: 40, text: '', template: OTHERS,
        redrawn: false, textOnly: false
      });
      if (block.open) {
        this.openBlocks.push({ group, window });
      }
    }
    count(window, group, 1, block.wall, block.wall);
    group.held += 1;
    group.ranks.add(this.sources.at(block.source).rank);
  }

  /** Blocks that have ended since: with those that say the same. */
  private closeBlocks(): void {
    for (const { group, window } of this.openBlocks) {
      if (group.block !== null && !group.block.open) {
        this.made.rename(window, group, openName(group.row), `block ${group.block.key}`);
      }
    }
    this.openBlocks = this.openBlocks.filter(({ group }) => group.block?.open);
  }
}

function openName(row: number): string {
  return `open ${row}`;
}
