/**
 * Which lines pass a filter, by segment, and what is counted of them. Results are kept for as long as
 * their segment is there and unchanged; of a segment that has grown, only the new lines are looked at.
 */
import type { Filter, LevelCounts } from './api';
import { SLOTS } from './levels';
import type { LineStore } from './lines';
import { Matcher } from './matcher';
import type { Scheduler } from './scheduler';
import { RowMark, Segment } from './segment';
import type { SkipGroup } from './skipgroups';
import type { Sources } from './sources';
import type { Block } from './tracebacks';

const INFO = 20;
const ERROR = 40;

/** Of one segment. `rows` are indices of lines of their own and heads of blocks, ascending. */
export interface Matches {
  readonly segment: Segment;
  /** How many of its lines have been looked at, in which state. */
  count: number;
  version: number;
  /** What passes but for the time filter, and with it. */
  untimed: Uint32Array;
  rows: Uint32Array;
  /** Lines that pass; a block counts all of its. */
  shown: number;
  /** Lines of the cell, and how many of which level. */
  total: number;
  levels: number[];
  /** How many of `rows` have level ERROR or more. */
  errors: number;
}

export const NO_ROWS = new Uint32Array(0);

export class MatchCache {
  /** "" or why the text filter is not a regular expression. */
  problem = '';
  private matcher: Matcher | null = null;
  private allowed = new Uint8Array(0);
  private allowedAt = -1;
  private results = new Map<Segment, Matches>();
  private mask = new Uint8Array(4096);
  private found = new Uint32Array(4096);

  constructor(
    private readonly store: LineStore,
    private readonly sources: Sources,
    private filter: Filter
  ) {
    this.setFilter(filter);
  }

  setFilter(filter: Filter): void {
    this.filter = filter;
    this.results.clear();
    this.allowedAt = -1;
    const matcher = Matcher.of(filter);
    this.problem = typeof matcher === 'string' ? matcher : '';
    this.matcher = typeof matcher === 'string' ? null : matcher;
  }

  /** Look at what has not been looked at yet, the newest first; all at once where no text is searched,
   * else until `deadline`. True when all is done. */
  update(scheduler: Scheduler, deadline: number): boolean {
    this.updateSources();
    const kept = new Map<Segment, Matches>();
    let late = false;
    for (let at = this.store.parts.length - 1; at >= 0; at -= 1) {
      const part = this.store.parts[at];
      if (!(part instanceof Segment)) {
        continue;
      }
      let matches = this.results.get(part);
      if (matches?.version !== part.version) {
        matches = undefined;
      }
      if (matches === undefined || matches.count < part.count) {
        late ||= this.matcher !== null && scheduler.now() >= deadline;
        if (late) {
          continue;
        }
        matches = this.look(part, matches);
      }
      kept.set(part, matches);
    }
    this.results = kept;
    return !late;
  }

  of(segment: Segment): Matches | undefined {
    return this.results.get(segment);
  }

  all(): IterableIterator<Matches> {
    return this.results.values();
  }

  /** Whether an unfinished line passes. */
  passes(index: number, target: number, cell: number, level: number, text: string): boolean {
    const { filter } = this;
    this.updateSources();
    return (
      (filter.cell === null || filter.cell === cell) &&
      (filter.targets & target) !== 0 &&
      this.allowed[index] === 1 &&
      (level || INFO) >= filter.minLevel &&
      (this.matcher === null || this.matcher.test(text))
    );
  }

  /** Whether all the skipped lines pass that a group counts, said in a range of wall times, or none; null
   * where some may pass or it cannot be told. */
  judge(group: SkipGroup, [first, last]: readonly [number, number]): boolean | null {
    const { matcher } = this;
    const { cell, targets, minLevel, ranks, hosts, time } = this.filter;
    const { rankList, differs, whole } = group;
    const wanted = ranks === null ? rankList : rankList.filter(rank => ranks.has(rank));
    const sure = matcher === null || (!differs && whole);
    if (
      (cell !== null && cell !== group.cell) ||
      (targets & group.target) === 0 ||
      (group.level || INFO) < minLevel ||
      !this.inTime(first, last) ||
      (wanted.length === 0 && rankList.length > 0) ||
      (sure && matcher?.test(group.text) === false)
    ) {
      return false;
    }
    const ofAll =
      sure &&
      hosts === null &&
      (ranks === null || (rankList.length > 0 && wanted.length === rankList.length)) &&
      (time === null || (first >= time[0] && last <= time[1]));
    return ofAll ? true : null;
  }

  /** Whether a range of wall times passes the time filter, at least in part. */
  inTime(first: number, last: number): boolean {
    const { time } = this.filter;
    return time === null || (last >= time[0] && first <= time[1]);
  }

  private updateSources(): void {
    const { sources, filter } = this;
    const stamp = sources.version + sources.size;
    if (this.allowedAt === stamp) {
      return;
    }
    if (this.allowedAt >= 0 && (filter.ranks !== null || filter.hosts !== null)) {
      this.results.clear(); // a source is another than it seemed
    }
    this.allowedAt = stamp;
    this.allowed = new Uint8Array(sources.size);
    for (let index = 0; index < sources.size; index += 1) {
      const source = sources.at(index);
      const passes =
        (filter.ranks === null || filter.ranks.has(source.rank)) &&
        (filter.hosts === null || filter.hosts.has(source.host));
      this.allowed[index] = passes ? 1 : 0;
    }
  }

  private look(segment: Segment, before: Matches | undefined): Matches {
    const { allowed, matcher } = this;
    const { cell, targets, minLevel } = this.filter;
    const from = before?.count ?? 0;
    const { count } = segment;
    if (this.mask.length < count) {
      this.mask = new Uint8Array(count);
      this.found = new Uint32Array(count);
    }
    const { mask, found } = this;
    if (matcher !== null) {
      matcher.testAll(segment, from, mask);
      for (const block of segment.blocks) {
        if (block.head - segment.first >= from) {
          mask[block.head - segment.first] = this.inBlock(block, matcher) ? 1 : 0;
        }
      }
    }
    const levels = before?.levels ?? [0, 0, 0, 0, 0, 0];
    const { marks, level: levelColumn, cell: cells, target, source } = segment;
    let total = before?.total ?? 0;
    let length = 0;
    for (let index = from; index < count; index += 1) {
      const mark = marks[index] as number;
      if ((mark & RowMark.hidden) !== 0 || (cell !== null && cells[index] !== cell)) {
        continue;
      }
      total += 1;
      const isMember = (mark & RowMark.member) !== 0;
      const level = isMember ? 0 : (levelColumn[index] as number);
      const slot = SLOTS[level] as number;
      levels[slot] = (levels[slot] as number) + 1;
      if (
        !isMember &&
        ((target[index] as number) & targets) !== 0 &&
        allowed[source[index] as number] === 1 &&
        (level === 0 ? INFO : level) >= minLevel &&
        (matcher === null || mask[index] === 1)
      ) {
        found[length++] = index;
      }
    }
    const untimed = joined(before?.untimed ?? NO_ROWS, found.subarray(0, length));
    const rows = this.inTimeRows(segment, untimed);
    const matches: Matches = {
      segment, count, untimed, rows, total, levels,
      version: segment.version,
      shown: rows.length,
      errors: 0
    };
    for (let at = 0; at < rows.length; at += 1) {
      matches.errors += (levelColumn[rows[at] as number] as number) >= ERROR ? 1 : 0;
    }
    for (const block of segment.blocks) {
      if (has(rows, block.head - segment.first)) {
        matches.shown += block.rows.length - 1;
      }
    }
    this.results.set(segment, matches);
    return matches;
  }

  private inTimeRows(segment: Segment, rows: Uint32Array): Uint32Array {
    const { time } = this.filter;
    if (time === null) {
      return rows;
    }
    return rows.filter(index => {
      const wall = segment.wall[index] as number;
      return wall >= time[0] && wall <= time[1];
    });
  }

  private inBlock(block: Block, matcher: Matcher): boolean {
    return block.rows.some(row => {
      const segment = this.store.segmentOf(row);
      return segment !== null && matcher.test(segment.raw(row - segment.first));
    });
  }
}

/** Sums of what the segments' results count. */
export function sumLevels(all: Iterable<Matches>): LevelCounts {
  const sum: [number, number, number, number, number, number] = [0, 0, 0, 0, 0, 0];
  for (const { levels } of all) {
    for (let slot = 0; slot < 6; slot += 1) {
      sum[slot] = (sum[slot] as number) + (levels[slot] as number);
    }
  }
  return sum;
}

/** Where in ascending `rows` the first is that is not before `index`. */
export function lowerBound(rows: ArrayLike<number>, index: number): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((rows[middle] as number) < index) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/** Whether ascending `rows` hold an index. */
export function has(rows: Uint32Array, index: number): boolean {
  return rows[lowerBound(rows, index)] === index;
}

function joined(one: Uint32Array, other: Uint32Array): Uint32Array {
  if (one.length === 0) {
    return other.slice();
  }
  const both = new Uint32Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}
