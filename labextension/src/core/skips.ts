/**
 * Rows that this page does not hold, and what is known of them. A skip of the kernel is a
 * {@link Summary}; lines of it that come later are taken out of its counts. Where they come from the
 * middle, several {@link Skip} pieces share the summary: the first of them tells it, and its counts of
 * lines are divided among all.
 */
import type { SkipMessage } from './protocol';
import { RowMark } from './segment';
import type { Segment } from './segment';
import { groupOf, joined, keyOf, linesIn, mayCount, skipGroup } from './skipgroups';
import type { SkipGroup } from './skipgroups';
import type { Sources } from './sources';
import type { Templates } from './templates';

const ERROR = 40;
/** How many groups a summary keeps that was made of several. */
const MOST_GROUPS = 50;

/** What is known of a range of rows, less what has come since. */
export class Summary {
  /** Lines by cell. */
  readonly cells = new Map<number, number>();
  /** Where the lines of a cell are: the first row, and the one behind the last. */
  readonly spans = new Map<number, readonly [number, number]>();
  /** What they say. Lines that no group counts are others. */
  groups: SkipGroup[] = [];
  wall: [number, number] = [0, 0];
  /** False: rows that were lost or have been dropped here. */
  known = false;
  /** The skips that share this summary, in the order of rows. */
  readonly pieces: Skip[] = [];
  /** Others of level ERROR and more by cell, as far as known. */
  private readonly otherErrors = new Map<number, number>();

  static of(message: SkipMessage, templates: Templates): Summary {
    const summary = new Summary();
    summary.known = true;
    summary.wall = [message.wall[0], message.wall[1]];
    for (const [cell, lines, first, end] of message.cells) {
      summary.cells.set(cell, (summary.cells.get(cell) ?? 0) + lines);
      summary.widen(cell, first, end);
    }
    summary.groups = message.groups.map(told => skipGroup(told, templates));
    return summary;
  }

  /** What stays known of lines that leave this page. */
  static ofEvicted(segment: Segment): Summary {
    const summary = new Summary();
    let first = Infinity;
    let last = -Infinity;
    for (let index = 0; index < segment.count; ) {
      const cell = segment.cell[index] as number;
      const begin = index;
      let errors = 0;
      for (; index < segment.count && segment.cell[index] === cell; index += 1) {
        const wall = segment.wall[index] as number;
        first = wall < first ? wall : first;
        last = wall > last ? wall : last;
        errors += statesError(segment, index) ? 1 : 0;
      }
      addTo(summary.cells, cell, index - begin);
      addTo(summary.otherErrors, cell, errors);
      summary.widen(cell, segment.first + begin, segment.first + index);
    }
    summary.wall = [first, last];
    return summary;
  }

  /** Whether nothing was ever told of these rows. */
  get empty(): boolean {
    return !this.known && this.cells.size === 0;
  }

  /** How many lines of a cell (null: of all) there are among the rows of all pieces. */
  linesOf(cell: number | null): number {
    return cell === null
      ? this.pieces.reduce((sum, { first, end }) => sum + end - first, 0)
      : (this.cells.get(cell) ?? 0);
  }

  /** How many of them state level ERROR or more, as far as known; without those that some groups count. */
  errorsOf(cell: number | null, apart: readonly SkipGroup[] = []): number {
    const groups = this.groups.filter(group => group.level >= ERROR && !apart.includes(group));
    return this.otherErrorsOf(cell) + linesIn(groups, cell);
  }

  /** Those of them that no group counts. */
  otherErrorsOf(cell: number | null): number {
    if (cell !== null) {
      return this.otherErrors.get(cell) ?? 0;
    }
    let errors = 0;
    for (const some of this.otherErrors.values()) {
      errors += some;
    }
    return errors;
  }

  /** Add what is known of other rows. Of the groups those stay that count most. */
  absorb(other: Summary, templates: Templates): void {
    for (const [cell, lines] of other.cells) {
      addTo(this.cells, cell, lines);
    }
    for (const [cell, [first, end]] of other.spans) {
      this.widen(cell, first, end);
    }
    for (const [cell, errors] of other.otherErrors) {
      addTo(this.otherErrors, cell, errors);
    }
    if (this.wall[1] === 0) {
      this.wall = other.wall;
    } else if (other.wall[1] !== 0) {
      this.wall = [Math.min(this.wall[0], other.wall[0]), Math.max(this.wall[1], other.wall[1])];
    }
    this.known ||= other.known;
    const groups = new Map<string, SkipGroup>();
    for (const group of [...this.groups, ...other.groups]) {
      const key = keyOf(group, templates);
      const same = groups.get(key);
      groups.set(key, same === undefined ? group : joined(same, group));
    }
    this.groups = [...groups.values()];
    if (groups.size > MOST_GROUPS) {
      this.groups.sort((one, two) => two.count - one.count);
      for (const { level, cell, count } of this.groups.splice(MOST_GROUPS)) {
        addTo(this.otherErrors, cell, level >= ERROR ? count : 0);
      }
    }
  }

  /** Lines that have come after all: count them no more. */
  takeLines(lines: Segment, sources: Sources, templates: Templates): void {
    const groupsOf = new Map<number, SkipGroup[]>();
    for (let index = 0; index < lines.count; index += 1) {
      const cell = lines.cell[index] as number;
      addTo(this.cells, cell, -1);
      const source = sources.at(lines.source[index] as number);
      const root = templates.find(lines.template[index] as number);
      let alike = groupsOf.get(root);
      if (alike === undefined) {
        alike = this.groups.filter(each => mayCount(each, root, templates));
        groupsOf.set(root, alike);
      }
      const group = groupOf(alike, lines, index, source.job);
      if (group !== undefined) {
        group.count -= 1;
      } else if (statesError(lines, index)) {
        addTo(this.otherErrors, cell, -1);
      }
    }
    this.groups = this.groups.filter(group => group.count > 0);
  }

  /** The part of this range that another summary tells of: count it no more. */
  takeSummary(other: Summary, templates: Templates): void {
    for (const [cell, lines] of other.cells) {
      addTo(this.cells, cell, -lines);
    }
    for (const [cell, errors] of other.otherErrors) {
      addTo(this.otherErrors, cell, -errors);
    }
    const groups = new Map(this.groups.map(group => [keyOf(group, templates), group]));
    for (const taken of other.groups) {
      const group = groups.get(keyOf(taken, templates));
      if (group !== undefined) {
        group.count = Math.max(0, group.count - taken.count);
      }
    }
    this.groups = this.groups.filter(group => group.count > 0);
  }

  /** Its groups have the levels of their templates, as far as these are known. */
  relevel(templates: Templates): void {
    for (const group of this.groups) {
      group.level = templates.level(group.template) ?? group.level;
    }
  }

  /** A skip that shares this summary is among the rows, or is so no more. */
  addPiece(piece: Skip): void {
    const behind = this.pieces.findIndex(each => each.first > piece.first);
    this.pieces.splice(behind < 0 ? this.pieces.length : behind, 0, piece);
  }

  removePiece(piece: Skip): void {
    const at = this.pieces.indexOf(piece);
    if (at >= 0) {
      this.pieces.splice(at, 1);
    }
  }

  private widen(cell: number, first: number, end: number): void {
    const span = this.spans.get(cell);
    if (span === undefined || first < span[0] || end > span[1]) {
      this.spans.set(cell, span ? [Math.min(span[0], first), Math.max(span[1], end)] : [first, end]);
    }
  }
}

/** A range of rows that is not held. Replaced, never changed, when its range changes. */
export class Skip {
  /** Counts changes of the summary, and of whether it is being fetched. */
  version = 0;

  constructor(
    readonly first: number,
    readonly end: number,
    readonly summary: Summary
  ) {}

  /** Whether this piece tells the summary. */
  get tells(): boolean {
    return this.summary.pieces[0] === this;
  }

  /** How many lines of a cell (null: of all) there are among these rows, without those that some groups
   * count: with those of the pieces that share the summary as many as it tells. All rows where nothing is
   * known of them. */
  linesOf(cell: number | null, apart: readonly SkipGroup[] = []): number {
    const { summary } = this;
    return summary.empty || (cell === null && apart.length === 0)
      ? this.end - this.first
      : this.share(Math.max(0, summary.linesOf(cell) - linesIn(apart, cell)), cell);
  }

  /** Which of these rows may be lines of a cell (null: of any). */
  rowsOf(cell: number | null): readonly [number, number] {
    const span = cell === null ? undefined : this.summary.spans.get(cell);
    const first = Math.max(this.first, span?.[0] ?? this.first);
    const end = Math.min(this.end, span?.[1] ?? this.end);
    return first < end ? [first, end] : [this.first, this.end];
  }

  /** The rest of it, without the rows before `first` and from `end` on. */
  part(first: number, end: number): Skip {
    return new Skip(first, end, this.summary);
  }

  /** This piece's share of lines that the summary counts somewhere among the rows of a cell. They are
   * taken to be spread evenly, so that it is never less nor more than is possible. */
  private share(lines: number, cell: number | null): number {
    let before = 0;
    let total = 0;
    for (const piece of this.summary.pieces) {
      before = piece === this ? total : before;
      total += piece.overlap(cell);
    }
    const spread = Math.min(lines, total);
    const until = (rows: number): number => (total === 0 ? 0 : Math.floor((spread * rows) / total));
    return until(before + this.overlap(cell)) - until(before);
  }

  /** How many of these rows may be lines of a cell (null: of any). */
  private overlap(cell: number | null): number {
    const span = cell === null ? undefined : this.summary.spans.get(cell);
    return span === undefined
      ? this.end - this.first
      : Math.max(0, Math.min(this.end, span[1]) - Math.max(this.first, span[0]));
  }
}

/** Whether a line states level ERROR or more; a block counts as one. */
export function statesError(segment: Segment, index: number): boolean {
  return (
    (segment.level[index] as number) >= ERROR &&
    !((segment.marks[index] as number) & (RowMark.hidden | RowMark.member))
  );
}

function addTo(counts: Map<number, number>, key: number, count: number): void {
  const sum = (counts.get(key) ?? 0) + count;
  if (sum > 0) {
    counts.set(key, sum);
  } else {
    counts.delete(key);
  }
}
