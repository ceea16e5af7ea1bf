/**
 * All rows that a page knows of, in order: lines that it holds, and skips. Merging is idempotent: the
 * same rows may come again, in any order and in parts. Lines win over skips.
 *
 *     parts   Segment [0, 4096)  Skip [4096, 9000)  Segment [9000, 9120)    no gaps, no overlaps
 *
 * At most MOST_LINES lines and MOST_BYTES of text are held, in at most MOST_PARTS parts; beyond that the
 * oldest lines leave, and become one skip with those beside them.
 */
import { LineFlag } from './protocol';
import type { SkipMessage } from './protocol';
import { Segment } from './segment';
import { Skip, statesError, Summary } from './skips';
import type { Sources } from './sources';
import type { Templates } from './templates';

export type Part = Segment | Skip;

const MOST_LINES = 400_000;
const MOST_BYTES = 48 << 20;
const MOST_PARTS = 2000;
const SEGMENT_LINES = 4096;
const SEGMENT_CHARS = 256 << 10;
/** How many ranges that were asked for are protected. */
const MOST_KEPT = 8;

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
  /** Rows that do not leave before others; the newest range is first. */
  private kept: (readonly [number, number])[] = [];
  private readonly loading = new Set<readonly [number, number]>();

  constructor(
    private readonly sources: Sources,
    private readonly templates: Templates,
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

  /** Rows that were asked for: they do not leave before others, unless they are many. */
  keep(first: number, end: number): void {
    let left = Math.floor(this.bounds.lines / 4);
    const fresh = [first, Math.min(end, first + left)] as const;
    const older = this.kept.filter(([from, to]) => from < fresh[0] || to > fresh[1]);
    this.kept = [fresh, ...older].slice(0, MOST_KEPT).filter(([from, to]) => (left -= to - from) >= 0);
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

  /** Whether rows of a range are being fetched. */
  isLoading(range: { readonly first: number; readonly end: number }): boolean {
    for (const [first, end] of this.loading) {
      if (range.first < end && range.end > first) {
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
    const summary = Summary.of(message, this.templates);
    const [from, to] = this.range(first, end);
    const fresh: Part[] = [];
    for (const part of this.parts.slice(from, to)) {
      if (part instanceof Segment) {
        summary.takeLines(
          part.slice(Math.max(first, part.first) - part.first, Math.min(end, part.end) - part.first),
          this.sources,
          this.templates
        );
        fresh.push(part);
      } else if (part.summary.known) {
        if (part.tells && part.first >= first && part.end <= end) {
          summary.takeSummary(part.summary, this.templates);
        }
        fresh.push(part);
      } else {
        if (part.first < first) {
          fresh.push(part.part(part.first, first));
        }
        fresh.push(new Skip(Math.max(first, part.first), Math.min(end, part.end), summary));
        if (part.end > end) {
          fresh.push(part.part(end, part.end));
        }
      }
    }
    this.insert(from, to - from, fresh);
    this.evict();
  }

  /** Levels of templates are others than before: lines have them too. */
  relevel(): void {
    this.version += 1;
    for (const part of this.parts) {
      if (part instanceof Skip) {
        part.summary.relevel(this.templates);
        part.version += 1;
      } else if (part.relevel(this.templates).changed) {
        part.version += 1;
        part.shape += 1;
      }
    }
  }

  /** Templates have other shapes than before: so is what is said of skipped lines. */
  reshape(): void {
    for (const part of this.parts) {
      if (part instanceof Skip && part.summary.groups.length > 0) {
        part.version += 1;
      }
    }
  }

  /** Make the parts cover a range: what is new of it is a hole. */
  private cover(first: number, end: number): void {
    const last = this.parts[this.parts.length - 1];
    if (last === undefined) {
      this.insert(0, 0, [new Skip(first, end, new Summary())]);
      return;
    }
    if (end > last.end) {
      this.insert(this.parts.length, 0, [new Skip(last.end, end, new Summary())]);
    }
    if (first < this.first) {
      this.insert(0, 0, [new Skip(first, this.first, new Summary())]);
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
    if (skip.end > end || skip.first < first || skip.summary.pieces.length > 1) {
      skip.summary.takeLines(lines, this.sources, this.templates);
    }
    if (skip.first < first) {
      parts.unshift(skip.part(skip.first, first));
    }
    if (skip.end > end) {
      parts.push(skip.part(end, skip.end));
    }
    return parts;
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
    } else if (sign > 0) {
      part.summary.addPiece(part);
    } else {
      part.summary.removePiece(part);
    }
  }

  private get full(): boolean {
    const { lines, bytes } = this.bounds;
    return this.held > lines || this.bytes > bytes || this.parts.length > MOST_PARTS;
  }

  private evict(): void {
    let keptBytes = 0;
    for (let at = 0; at < this.parts.length - 1 && this.full; ) {
      const part = this.parts[at];
      if (part instanceof Segment) {
        if (this.isKept(part) && keptBytes + part.size <= this.bounds.bytes / 2) {
          keptBytes += part.size;
          at += 1;
          continue;
        }
        this.drop(at, part);
        this.join(at + 1);
      }
      at += this.join(at) ? 0 : 1;
    }
  }

  private isKept({ first, end }: Segment): boolean {
    return this.kept.some(([from, to]) => first < to && end > from);
  }

  /** A skip in the place of a segment. */
  private drop(at: number, segment: Segment): void {
    for (const listener of this.evictListeners) {
      listener(segment);
    }
    this.insert(at, 1, [new Skip(segment.first, segment.end, Summary.ofEvicted(segment))]);
  }

  /** Make one skip of this part and the one before it. False where they are not two skips, or only of
   * one of them anything is known. */
  private join(at: number): boolean {
    const before = this.parts[at - 1];
    const part = this.parts[at];
    if (
      !(before instanceof Skip && part instanceof Skip) ||
      before.summary.empty !== part.summary.empty
    ) {
      return false;
    }
    const { summary } = before;
    if (part.summary !== summary) {
      summary.absorb(part.summary, this.templates);
      for (const { first, end } of part.summary.pieces.filter(piece => piece !== part)) {
        this.insert(this.indexOf(first), 1, [new Skip(first, end, summary)]);
      }
    }
    this.insert(at - 1, 2, [new Skip(before.first, part.end, summary)]);
    return true;
  }
}

/** Lines of level ERROR and more; a block counts as one. */
export function errorsOf(segment: Segment): number {
  let errors = 0;
  for (let index = 0; index < segment.count; index += 1) {
    errors += statesError(segment, index) ? 1 : 0;
  }
  return errors;
}
