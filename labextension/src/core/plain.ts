/** The list of every line: lines, blocks and skips in the order of rows. */
import type { Item } from './api';
import type { ItemMaker } from './items';
import type { LineStore, Part } from './lines';
import { has, lowerBound, NO_ROWS } from './matches';
import type { MatchCache, Matches } from './matches';
import { RowMark, Segment } from './segment';
import type { Skip } from './skips';
import type { Sources } from './sources';
import type { Block } from './tracebacks';

/** What both lists offer to a query. */
export interface ItemList {
  readonly length: number;
  item(index: number): Item;
  indexOf(id: string): number;
  /** The next item behind (or before) `index` that is an error; -1: none. */
  nextError(index: number, direction: 1 | -1): number;
}

/** The items of one part: `rows` are those of its matches, without blocks that an equal one stands for. */
interface Entry {
  part: Part;
  version: number;
  /** Index of its first item. */
  start: number;
  rows: Uint32Array;
  length: number;
  errors: number;
}

/** All blocks that say the same. */
interface Same {
  first: Block;
  ranks: Set<number>;
  count: number;
}

export class PlainList implements ItemList {
  length = 0;
  private entries: Entry[] = [];
  private same = new Map<string, Same>();
  private cell: number | null = null;

  constructor(
    private readonly store: LineStore,
    private readonly sources: Sources,
    private readonly matches: MatchCache,
    private readonly items: ItemMaker
  ) {}

  /** Read the store and the matches again. True where items were added at the end at most. */
  update(cell: number | null): boolean {
    this.cell = cell;
    const before = this.entries;
    const same = new Map<string, Same>();
    const entries: Entry[] = [];
    let start = 0;
    for (const part of this.store.parts) {
      const entry =
        part instanceof Segment ? this.segmentEntry(part, start, same) : this.skipEntry(part, start, cell);
      entries.push(entry);
      start += entry.length;
    }
    this.entries = entries;
    this.length = start;
    const grown = isGrown(before, entries) && sameBlocks(this.same, same);
    this.same = same;
    return grown;
  }

  item(index: number): Item {
    const at = this.entryAt(index);
    const entry = this.entries[at];
    if (entry === undefined || index < 0 || index >= this.length) {
      throw new RangeError(`no item ${index} of ${this.length}`);
    }
    if (!(entry.part instanceof Segment)) {
      return this.items.skip(entry.part, this.cell);
    }
    return this.rowItem(entry.part, entry.rows[index - entry.start] as number);
  }

  indexOf(id: string): number {
    const row = Number(id.slice(1));
    const entry = this.entries.find(({ part }) => row >= part.first && row < part.end);
    if (entry === undefined) {
      return -1;
    }
    const { part } = entry;
    if (!(part instanceof Segment)) {
      return entry.length > 0 ? entry.start : -1;
    }
    const index = row - part.first;
    const mark = part.marks[index] as number;
    if (id.startsWith('s')) {
      const behind = lowerBound(entry.rows, index);
      return entry.start + behind < this.length ? entry.start + behind : -1;
    }
    if (mark & (RowMark.member | RowMark.head)) {
      return this.indexOfBlock(row, (mark & RowMark.head) !== 0);
    }
    return has(entry.rows, index) ? entry.start + lowerBound(entry.rows, index) : -1;
  }

  nextError(index: number, direction: 1 | -1): number {
    let next = index + direction;
    while (next >= 0 && next < this.length) {
      const entry = this.entries[this.entryAt(next)] as Entry;
      if (entry.errors > 0) {
        if (!(entry.part instanceof Segment)) {
          return next;
        }
        const { level } = entry.part;
        for (let at = next - entry.start; at >= 0 && at < entry.length; at += direction) {
          if ((level[entry.rows[at] as number] as number) >= 40) {
            return entry.start + at;
          }
        }
      }
      next = direction > 0 ? entry.start + entry.length : entry.start - 1;
    }
    return -1;
  }

  /** Each segment in order with the rows that are items, and where the first of these stands. */
  *segments(): IterableIterator<{ segment: Segment; rows: Uint32Array; start: number }> {
    for (const { part, rows, start } of this.entries) {
      if (part instanceof Segment) {
        yield { segment: part, rows, start };
      }
    }
  }

  private rowItem(segment: Segment, index: number): Item {
    if ((segment.marks[index] as number) & RowMark.head) {
      const block = segment.blocks.find(each => each.head === segment.first + index);
      if (block !== undefined) {
        const same = this.same.get(block.key);
        return same?.first === block
          ? this.items.block(block, [...same.ranks].sort((one, other) => one - other), same.count)
          : this.items.block(block, [this.sources.at(block.source).rank], 1);
      }
    }
    return this.items.line(segment, index);
  }

  private indexOfBlock(row: number, isHead: boolean): number {
    for (const { part } of this.entries) {
      const blocks = part instanceof Segment ? part.blocks : [];
      const block = blocks.find(each => (isHead ? each.head === row : each.rows.includes(row)));
      if (block !== undefined) {
        const { head } = this.same.get(block.key)?.first ?? block;
        const at = this.entries.findIndex(each => head >= each.part.first && head < each.part.end);
        const entry = this.entries[at];
        return entry !== undefined && has(entry.rows, head - entry.part.first)
          ? entry.start + lowerBound(entry.rows, head - entry.part.first)
          : -1;
      }
    }
    return -1;
  }

  private segmentEntry(segment: Segment, start: number, same: Map<string, Same>): Entry {
    const matches = this.matches.of(segment);
    const rows = matches === undefined ? NO_ROWS : this.merge(matches, same);
    const { version } = segment;
    const errors = matches?.errors ?? 0;
    return { part: segment, version, start, rows, length: rows.length, errors };
  }

  private skipEntry(skip: Skip, start: number, cell: number | null): Entry {
    const { summary } = skip;
    const seen =
      skip.linesOf(cell) > 0 && (!summary.wall[1] || this.matches.inTime(...summary.wall));
    const errors = skip.tells ? summary.errorsOf(cell) : 0;
    return { part: skip, version: skip.version, start, rows: NO_ROWS, length: seen ? 1 : 0, errors };
  }

  /** The rows without blocks that an earlier one stands for. */
  private merge({ segment, rows }: Matches, same: Map<string, Same>): Uint32Array {
    const repeated = new Set<number>();
    for (const block of segment.blocks) {
      if (block.open || !has(rows, block.head - segment.first)) {
        continue;
      }
      const { rank } = this.sources.at(block.source);
      const known = same.get(block.key);
      if (known === undefined) {
        same.set(block.key, { first: block, ranks: new Set([rank]), count: 1 });
      } else {
        known.ranks.add(rank);
        known.count += 1;
        repeated.add(block.head - segment.first);
      }
    }
    return repeated.size === 0 ? rows : rows.filter(index => !repeated.has(index));
  }

  /** The entry that holds an item. */
  private entryAt(index: number): number {
    let low = 0;
    let high = this.entries.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.entries[middle] as Entry).start <= index) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }
}

function isGrown(before: readonly Entry[], now: readonly Entry[]): boolean {
  if (before.length > now.length) {
    return false;
  }
  return before.every((old, at) => {
    const entry = now[at] as Entry;
    return (
      entry.part === old.part &&
      entry.version === old.version &&
      (entry.length === old.length || (at === before.length - 1 && startsWith(entry.rows, old.rows)))
    );
  });
}

function startsWith(rows: Uint32Array, beginning: Uint32Array): boolean {
  return beginning.every((row, at) => rows[at] === row);
}

function sameBlocks(before: ReadonlyMap<string, Same>, now: ReadonlyMap<string, Same>): boolean {
  for (const [key, { count }] of before) {
    if (now.get(key)?.count !== count) {
      return false;
    }
  }
  return true;
}
