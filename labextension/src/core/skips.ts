/**
 * Rows that this page does not hold, and what is known of them. A skip of the kernel is a
 * {@link Summary}; lines of it that come later are taken out of its counts. Where they come from the
 * middle, several {@link Skip} pieces share the summary, and the first of them tells it.
 */
import { levelOf } from './levels';
import { templateOf } from './patterns';
import { parseRanks } from './ranks';
import type { SkipMessage } from './protocol';
import type { Segment } from './segment';
import type { Sources } from './sources';

export interface SkipGroup {
  readonly target: number;
  readonly job: string;
  readonly cell: number;
  readonly text: string;
  readonly template: string;
  readonly ranks: string;
  readonly rankList: readonly number[];
  readonly level: number;
  readonly differs: boolean;
  count: number;
}

/** What is known of a range of rows, less what has come since. */
export class Summary {
  /** Lines by cell. */
  readonly cells = new Map<number, number>();
  /** Where the lines of a cell are: the first row, and the one behind the last. */
  readonly spans = new Map<number, readonly [number, number]>();
  groups: SkipGroup[] = [];
  others = 0;
  wall: [number, number] = [0, 0];
  /** False: rows that were lost or have been dropped here. */
  known = false;
  /** Lines of level ERROR and more, as far as known. */
  errors = 0;

  static of(message: SkipMessage): Summary {
    const summary = new Summary();
    summary.known = true;
    summary.wall = [message.wall[0], message.wall[1]];
    summary.others = message.others;
    for (const [cell, lines, first, end] of message.cells) {
      summary.cells.set(cell, (summary.cells.get(cell) ?? 0) + lines);
      summary.widen(cell, first, end);
    }
    for (const [target, job, cell, text, count, ranks, differs] of message.groups) {
      const level = levelOf(text);
      summary.groups.push({
        target, job, cell, text, count, ranks, level,
        template: templateOf(text),
        rankList: parseRanks(ranks) ?? [],
        differs: differs !== 0
      });
      summary.errors += level >= 40 ? count : 0;
    }
    return summary;
  }

  /** What stays known of lines that leave this page. */
  static ofEvicted(segment: Segment, errors: number): Summary {
    const summary = new Summary();
    let first = Infinity;
    let last = -Infinity;
    for (let index = 0; index < segment.count; index += 1) {
      const cell = segment.cell[index] as number;
      summary.cells.set(cell, (summary.cells.get(cell) ?? 0) + 1);
      summary.widen(cell, segment.first + index, segment.first + index + 1);
      const wall = segment.wall[index] as number;
      first = Math.min(first, wall);
      last = Math.max(last, wall);
    }
    summary.wall = [first, last];
    summary.others = segment.count;
    summary.errors = errors;
    return summary;
  }

  /** Whether nothing was ever told of these rows. */
  get empty(): boolean {
    return !this.known && this.cells.size === 0;
  }

  /** Add what is known of another range. */
  add(other: Summary): void {
    for (const [cell, lines] of other.cells) {
      this.cells.set(cell, (this.cells.get(cell) ?? 0) + lines);
    }
    for (const [cell, [first, end]] of other.spans) {
      this.widen(cell, first, end);
    }
    this.wall = [Math.min(this.wall[0], other.wall[0]), Math.max(this.wall[1], other.wall[1])];
    this.others += other.others;
    this.errors += other.errors;
  }

  /** Lines that have come after all: count them no more. */
  takeLines(lines: Segment, sources: Sources): void {
    for (let index = 0; index < lines.count; index += 1) {
      this.takeCell(lines.cell[index] as number, 1);
      const source = sources.at(lines.source[index] as number);
      const template = this.groups.length === 0 ? '' : templateOf(lines.shown(index));
      const group = this.groups.find(
        each =>
          each.count > 0 &&
          each.template === template &&
          each.target === lines.target[index] &&
          each.job === source.job &&
          each.cell === lines.cell[index]
      );
      if (group === undefined && !this.known && (lines.level[index] as number) >= 40) {
        this.errors = Math.max(0, this.errors - 1);
      }
      this.takeFrom(group, 1);
    }
    this.groups = this.groups.filter(group => group.count > 0);
  }

  /** The part of this range that another summary tells of: count it no more. */
  takeSummary(other: Summary): void {
    for (const [cell, lines] of other.cells) {
      this.takeCell(cell, lines);
    }
    for (const taken of other.groups) {
      const group = this.groups.find(
        each =>
          each.template === taken.template &&
          each.target === taken.target &&
          each.job === taken.job &&
          each.cell === taken.cell
      );
      this.takeFrom(group, taken.count);
    }
    this.others = Math.max(0, this.others - other.others);
    this.groups = this.groups.filter(group => group.count > 0);
  }

  private widen(cell: number, first: number, end: number): void {
    const span = this.spans.get(cell);
    if (span === undefined || first < span[0] || end > span[1]) {
      this.spans.set(cell, span ? [Math.min(span[0], first), Math.max(span[1], end)] : [first, end]);
    }
  }

  private takeCell(cell: number, lines: number): void {
    const left = (this.cells.get(cell) ?? 0) - lines;
    if (left > 0) {
      this.cells.set(cell, left);
    } else {
      this.cells.delete(cell);
    }
  }

  private takeFrom(group: SkipGroup | undefined, lines: number): void {
    const fromGroup = Math.min(group?.count ?? 0, lines);
    if (group !== undefined) {
      group.count -= fromGroup;
      this.errors -= group.level >= 40 ? fromGroup : 0;
    }
    this.others = Math.max(0, this.others - (lines - fromGroup));
  }
}

/** A range of rows that is not held. Replaced, never changed, when its range changes. */
export class Skip {
  /** Counts changes of the summary, and of whether it is being fetched. */
  version = 0;

  constructor(
    readonly first: number,
    readonly end: number,
    readonly summary: Summary,
    /** Whether this piece tells the summary; of several pieces of one, the first does. */
    public tells: boolean
  ) {}

  /** How many lines of a cell (null: of all) there are among these rows, as far as known. */
  linesOf(cell: number | null): number {
    const rows = this.end - this.first;
    const { cells } = this.summary;
    if (cell === null || cells.size === 0) {
      return rows;
    }
    const span = this.summary.spans.get(cell);
    if (span !== undefined && (span[0] >= this.end || span[1] <= this.first)) {
      return 0;
    }
    return Math.min(rows, cells.get(cell) ?? 0);
  }

  /** Which of these rows may be lines of a cell (null: of any). */
  rowsOf(cell: number | null): readonly [number, number] {
    const span = cell === null ? undefined : this.summary.spans.get(cell);
    const first = Math.max(this.first, span?.[0] ?? this.first);
    const end = Math.min(this.end, span?.[1] ?? this.end);
    return first < end ? [first, end] : [this.first, this.end];
  }

  /** The rest of it, without the rows before `first` and from `end` on. */
  part(first: number, end: number, tells: boolean): Skip {
    const part = new Skip(first, end, this.summary, tells);
    part.version = this.version + 1;
    return part;
  }
}
