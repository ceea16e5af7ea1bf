/**
 * All rows that a page knows of, in order: lines that it holds, and skips. Merging is idempotent: the
 * same rows may come again, in any order and in parts. Lines win over skips.
 *
 *     parts   Segment [0, 4096)  Skip [4096, 9000)  Segment [9000, 9120)    no gaps, no overlaps
 *
 * At most MOST_LINES lines and MOST_BYTES of text are held; beyond that the oldest become a skip.
 */
import { LineFlag } from './protocol';
import type { SkipMessage } from './protocol';
import { RowMark, Segment } from './segment';
import { Skip, Summary } from './skips';
import type { Sources } from './sources';

export type Part = Segment | Skip;

const MOST_LINES = 400_000;
const MOST_BYTES = 48 << 20;
const SEGMENT_LINES = 4096;
const SEGMENT_CHARS = 256 << 10;
const MOST_PROTECTED = MOST_LINES / 4;

export interface Bounds {
  lines: number;
  bytes: number;
}

export class LineStore {
  readonly parts: Part[] = [];
  /** Counts rows that came elsewhere than at the end. */
  structure = 0;
  /** Counts all changes. */
  version = 0;
  /** How many lines are held. */
  held = 0;
  private bytes = 0;
  private readonly evictListeners = new Set<(segment: Segment) => void>();
  private kept: readonly [number, number] = [0, 0];
  private readonly loading = new Set<readonly [number, number]>();

  constructor(
    private readonly sources: Sources,
    private readonly bounds: Bounds = { lines: MOST_LINES, bytes: MOST_BYTES }
  ) {}

  /** Hear of segments that are about to leave; gives the undo. */
  onEvict(listener: (segment: Segment) => void): () => void {
    this.evictListeners.add(listener);
    return () => {
      this.evictListeners.delete(listener);
    };
  }

  /** The first row known of, and the one behind the last. */
  get first(): number {
    return this.parts[0]?.first ?? 0;
  }

  get end(): number {
    return this.parts[this.parts.length - 1]?.end ?? 0;
  }

  /** The index of the part that a row is in; -1 outside. */
  indexOf(row: number): number {
    let low = 0;
    let high = this.parts.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const part = this.parts[middle] as Part;
      if (row < part.first) {
        high = middle - 1;
      } else if (row >= part.end) {
        low = middle + 1;
      } else {
        return middle;
      }
    }
    return -1;
  }

  /** The segment that holds a row. */
  segmentOf(row: number): Segment | null {
    const part = this.parts[this.indexOf(row)];
    return part instanceof Segment ? part : null;
  }

  /** The first row from `first` on, before `end`, that never came, not even as a skip; `end` where there
   * is none. */
  firstUnknown(first: number, end: number): number {
    let row = Math.max(first, this.first);
    if (first < this.first) {
      return Math.min(first, end);
    }
    while (row < end) {
      const part = this.parts[this.indexOf(row)];
      if (part === undefined || (part instanceof Skip && part.summary.empty)) {
        return row;
      }
      row = part.end;
    }
    return end;
  }

  /** Rows that were asked for: they do not leave before others. */
  keep(first: number, end: number): void {
    this.kept = [first, Math.min(end, first + MOST_PROTECTED)];
  }

  /** Tell that the rows of a range are being fetched; gives what tells the end of that. */
  startLoading(first: number, end: number): () => void {
    const range = [first, end] as const;
    this.loading.add(range);
    this.touchSkips(first, end);
    return () => {
      this.loading.delete(range);
      this.touchSkips(first, end);
    };
  }

  /** Whether rows of a skip are being fetched. */
  isLoading(skip: Skip): boolean {
    for (const [first, end] of this.loading) {
      if (skip.first < end && skip.end > first) {
        return true;
      }
    }
    return false;
  }

  /** What is said of these skips has changed; also of those beside them that were one with them. */
  private touchSkips(first: number, end: number): void {
    this.version += 1;
    for (const part of this.parts) {
      if (part instanceof Skip && part.first <= end && part.end >= first) {
        part.version += 1;
      }
    }
  }

  /** Take lines. */
  putLines(run: Segment): void {
    if (run.count === 0) {
      return;
    }
    this.version += 1;
    if (run.first === this.end && this.parts.length > 0) {
      this.insert(this.parts.length, 0, [run]);
    } else {
      this.structure += run.first > this.end || this.parts.length === 0 ? 0 : 1;
      this.cover(run.first, run.end);
      const [from, to] = this.range(run.first, run.end);
      const fresh: Part[] = [];
      for (const part of this.parts.slice(from, to)) {
        if (part instanceof Segment) {
          this.improve(part, run);
          fresh.push(part);
        } else {
          fresh.push(...this.fill(part, run));
        }
      }
      this.insert(from, to - from, fresh);
    }
    this.evict();
  }

  /** Take what is known of rows that are not in the message. */
  putSkip(message: SkipMessage): void {
    const { first, end } = message;
    if (first >= end) {
      return;
    }
    this.version += 1;
    this.structure += first < this.end ? 1 : 0;
    this.cover(first, end);
    const summary = Summary.of(message);
    const [from, to] = this.range(first, end);
    const fresh: Part[] = [];
    let tells = true;
    for (const part of this.parts.slice(from, to)) {
      if (part instanceof Segment) {
        summary.takeLines(
          part.slice(Math.max(first, part.first) - part.first, Math.min(end, part.end) - part.first),
          this.sources
        );
        fresh.push(part);
      } else if (part.summary.known) {
        if (part.tells && part.first >= first && part.end <= end) {
          summary.takeSummary(part.summary);
        }
        fresh.push(part);
      } else {
        if (part.first < first) {
          fresh.push(part.part(part.first, first, part.tells));
        }
        fresh.push(new Skip(Math.max(first, part.first), Math.min(end, part.end), summary, tells));
        tells = false;
        if (part.end > end) {
          fresh.push(part.part(end, part.end, part.tells && part.first >= first));
        }
      }
    }
    this.insert(from, to - from, fresh);
  }

  /** Make the parts cover a range: what is new of it is a hole. */
  private cover(first: number, end: number): void {
    const last = this.parts[this.parts.length - 1];
    if (last === undefined) {
      this.parts.push(new Skip(first, end, new Summary(), true));
      return;
    }
    if (end > last.end) {
      this.parts.push(new Skip(last.end, end, new Summary(), true));
    }
    if (first < this.first) {
      this.parts.unshift(new Skip(first, this.first, new Summary(), true));
    }
  }

  /** The parts that overlap a range that is covered, as indices from, to. */
  private range(first: number, end: number): [number, number] {
    return [this.indexOf(first), this.indexOf(end - 1) + 1];
  }

  /** What a skip becomes when lines come for some of its rows, or all. */
  private fill(skip: Skip, run: Segment): Part[] {
    const first = Math.max(skip.first, run.first);
    const end = Math.min(skip.end, run.end);
    const whole = first === run.first && end === run.end;
    const lines = whole ? run : run.slice(first - run.first, end - run.first);
    const parts: Part[] = [lines];
    const heir = skip.end > end || skip.first < first ? null : this.nextPiece(skip);
    if (skip.end > end || skip.first < first || heir !== null) {
      skip.summary.takeLines(lines, this.sources);
    }
    if (skip.first < first) {
      parts.unshift(skip.part(skip.first, first, skip.tells));
    }
    if (skip.end > end) {
      parts.push(skip.part(end, skip.end, skip.tells && skip.first >= first));
    }
    if (heir !== null && skip.tells) {
      heir.tells = true;
      heir.version += 1;
    }
    return parts;
  }

  /** The next piece that shares a skip's summary. */
  private nextPiece(skip: Skip): Skip | null {
    return (
      this.parts.find(
        (part): part is Skip =>
          part instanceof Skip && part !== skip && part.summary === skip.summary
      ) ?? null
    );
  }

  /** Lines that came shortened are replaced by whole ones. */
  private improve(segment: Segment, run: Segment): void {
    const end = Math.min(segment.end, run.end);
    for (let row = Math.max(segment.first, run.first); row < end; row += 1) {
      const index = row - segment.first;
      if (
        (segment.flags[index] as number) & LineFlag.shortened &&
        (run.raw(row - run.first).length > segment.raw(index).length ||
          !((run.flags[row - run.first] as number) & LineFlag.shortened))
      ) {
        this.bytes -= segment.size;
        segment.replace(index, run, row - run.first);
        this.bytes += segment.size;
      }
    }
  }

  /** Replace parts; small segments that follow each other become one. */
  private insert(at: number, remove: number, fresh: Part[]): void {
    for (const part of this.parts.slice(at, at + remove)) {
      this.count(part, -1);
    }
    this.parts.splice(at, remove, ...fresh);
    for (const part of fresh) {
      this.count(part, 1);
    }
    for (let index = at + fresh.length - 1; index >= at; index -= 1) {
      const part = this.parts[index];
      const before = this.parts[index - 1];
      if (
        part instanceof Segment &&
        before instanceof Segment &&
        before.count + part.count <= SEGMENT_LINES &&
        before.text.length + part.text.length <= SEGMENT_CHARS
      ) {
        this.count(before, -1);
        this.count(part, -1);
        before.append(part);
        this.count(before, 1);
        this.parts.splice(index, 1);
      }
    }
  }

  private count(part: Part, sign: 1 | -1): void {
    if (part instanceof Segment) {
      this.held += sign * part.count;
      this.bytes += sign * part.size;
    }
  }

  private evict(): void {
    const { lines, bytes } = this.bounds;
    for (let at = 0; this.held > lines || this.bytes > bytes; ) {
      const part = this.parts[at];
      if (part === undefined || at === this.parts.length - 1) {
        return;
      }
      if (!(part instanceof Segment) || (part.first < this.kept[1] && part.end > this.kept[0])) {
        at += 1;
        continue;
      }
      for (const listener of this.evictListeners) {
        listener(part);
      }
      const summary = Summary.ofEvicted(part, errorsOf(part));
      const before = this.parts[at - 1];
      const joins =
        before instanceof Skip && !before.summary.known && before.tells && !before.summary.empty;
      if (joins) {
        before.summary.add(summary);
        this.insert(at - 1, 2, [before.part(before.first, part.end, true)]);
      } else {
        this.insert(at, 1, [new Skip(part.first, part.end, summary, true)]);
        at += 1;
      }
    }
  }
}

/** Lines of level ERROR and more; a block counts as one. */
export function errorsOf(segment: Segment): number {
  let errors = 0;
  for (let index = 0; index < segment.count; index += 1) {
    if (
      (segment.level[index] as number) >= 40 &&
      !((segment.marks[index] as number) & (RowMark.hidden | RowMark.member))
    ) {
      errors += 1;
    }
  }
  return errors;
}
