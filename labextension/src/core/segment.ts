/**
 * Lines of consecutive rows, in columns: one decoded string for all of them and one typed array for
 * each thing that is known of a line. Grows at its end only.
 */
import type { Block } from './tracebacks';
import { hasMove } from './carriage';
import { levelOf, levelsOf } from './levels';
import type { Templates } from './templates';
import { BLOCK_SIGN } from './tracebacks';

/** What the analysis has found of a row. */
export const RowMark = {
  /** Its text has been replaced by a later line, or it is only a redraw of an earlier one. */
  hidden: 1,
  /** In a block, but not its head. */
  member: 2,
  /** The first line of a block. */
  head: 4,
  /** A line of the screen that later rows rewrite: see {@link Segment.redrawn}. */
  redrawn: 8
} as const;

/** What is known of one line, but for its text. */
export interface LineFacts {
  /** Dense index of its source. */
  source: number;
  target: number;
  cell: number;
  /** Its number within its stream. */
  line: number;
  wall: number;
}

const WIDE = /[^\x00-\xff]/;  

export class Segment {
  count = 0;
  /** All lines, each closed by "\n". */
  text = '';
  /** Where each line begins, and where the last ends. */
  offsets: Uint32Array;
  source: Uint32Array;
  target: Uint8Array;
  cell: Int32Array;
  line: Uint32Array;
  wall: Float64Array;
  flags: Uint8Array;
  level: Uint8Array;
  marks: Uint8Array;
  /** The template that the kernel found each line to be like; see {@link Segment.roots}. */
  template: Uint32Array;
  /** Blocks whose head is here, in order. */
  blocks: Block[] = [];
  /** What the screen says now in place of a row's own text, by index. */
  readonly redrawn = new Map<number, string>();
  /** True lengths of lines that are not whole, by index. */
  readonly trueBytes = new Map<number, number>();
  /** Counts changes to what has been there before; growing is none. */
  version = 0;
  /** Counts those of them that change which rows are lines of their own, or what blocks say. */
  shape = 0;
  /** Whether analysis has found anything. */
  marked = false;
  hasEscape = false;
  hasMoves = false;
  hasBlocks = false;
  /** Bytes that its text takes in memory. */
  size = 0;
  /** Levels of lines that are redrawn, as they came. */
  private readonly ownLevels = new Map<number, number>();
  private rootColumn = new Uint32Array(0);
  private rootCount = 0;
  private rootsAt = -1;

  constructor(readonly first: number, capacity: number) {
    this.offsets = new Uint32Array(capacity + 1);
    this.source = new Uint32Array(capacity);
    this.target = new Uint8Array(capacity);
    this.cell = new Int32Array(capacity);
    this.line = new Uint32Array(capacity);
    this.wall = new Float64Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.level = new Uint8Array(capacity);
    this.marks = new Uint8Array(capacity);
    this.template = new Uint32Array(capacity);
  }

  get end(): number {
    return this.first + this.count;
  }

  /** The text of a line as it came (settled, but for lines that move the cursor). */
  raw(index: number): string {
    return this.text.slice(this.offsets[index], (this.offsets[index + 1] as number) - 1);
  }

  /** Whether a line as it came is a text; where that is not `whole`, begins with it. */
  says(index: number, text: string, whole = true): boolean {
    const start = this.offsets[index] as number;
    const length = (this.offsets[index + 1] as number) - 1 - start;
    return (whole ? length === text.length : length >= text.length) && this.text.startsWith(text, start);
  }

  /** The text of a line as it is to be shown. */
  shown(index: number): string {
    if (this.redrawn.size > 0) {
      const text = this.redrawn.get(index);
      if (text !== undefined) {
        return text;
      }
    }
    return this.raw(index);
  }

  /** Add a line whose text is the next in `text`, up to `textEnd` (its newline included). */
  push(facts: LineFacts, textEnd: number, flags: number, template: number): void {
    this.reserve(this.count + 1);
    const index = this.count++;
    this.source[index] = facts.source;
    this.target[index] = facts.target;
    this.cell[index] = facts.cell;
    this.line[index] = facts.line;
    this.wall[index] = facts.wall;
    this.flags[index] = flags;
    this.template[index] = template;
    this.offsets[index + 1] = textEnd;
  }

  /** To be called when all lines have been pushed and their text is there: what it tells. */
  finish(templates: Templates): void {
    const { text } = this;
    this.hasEscape = text.includes('\x1b');
    this.hasMoves = this.hasEscape && hasMove(text);
    this.hasBlocks = text.includes(BLOCK_SIGN);
    this.size = text.length * (WIDE.test(text) ? 2 : 1);
    if (!this.relevel(templates).known) {
      levelsOf(text, this.offsets, 0, this.count, this.level);
      this.relevel(templates);
    }
  }

  /** Lines have the levels of their templates, as far as these are known. Tells whether all are, and
   * whether any line has another level than before. */
  relevel(templates: Templates): { known: boolean; changed: boolean } {
    let known = true;
    let changed = false;
    let id = -1;
    let level: number | null = null;
    for (let index = 0; index < this.count; index += 1) {
      if (this.template[index] !== id) {
        id = this.template[index] as number;
        level = templates.level(id);
      }
      if (level === null) {
        known = false;
      } else if (this.ownLevels.has(index)) {
        this.ownLevels.set(index, level);
      } else if (this.level[index] !== level) {
        this.level[index] = level;
        changed = true;
      }
    }
    return { known, changed };
  }

  /** Add the lines of a segment that begins where this one ends. Finished both. */
  append(other: Segment): void {
    const at = this.count;
    const shift = this.offsets[at] as number;
    this.reserve(at + other.count);
    for (let index = 0; index < other.count; index += 1) {
      this.offsets[at + index + 1] = shift + (other.offsets[index + 1] as number);
    }
    this.source.set(other.source.subarray(0, other.count), at);
    this.target.set(other.target.subarray(0, other.count), at);
    this.cell.set(other.cell.subarray(0, other.count), at);
    this.line.set(other.line.subarray(0, other.count), at);
    this.wall.set(other.wall.subarray(0, other.count), at);
    this.flags.set(other.flags.subarray(0, other.count), at);
    this.level.set(other.level.subarray(0, other.count), at);
    this.template.set(other.template.subarray(0, other.count), at);
    for (const [index, bytes] of other.trueBytes) {
      this.trueBytes.set(at + index, bytes);
    }
    this.count += other.count;
    this.text += other.text;
    this.hasEscape ||= other.hasEscape;
    this.hasMoves ||= other.hasMoves;
    this.hasBlocks ||= other.hasBlocks;
    const wide = this.size > shift || other.size > other.text.length;
    this.size = this.text.length * (wide ? 2 : 1);
  }

  /** The lines from index `from` to `to` as a segment of their own, without what analysis found. */
  slice(from: number, to: number): Segment {
    const part = new Segment(this.first + from, to - from);
    const shift = this.offsets[from] as number;
    part.count = to - from;
    part.text = this.text.slice(shift, this.offsets[to]);
    for (let index = from; index <= to; index += 1) {
      part.offsets[index - from] = (this.offsets[index] as number) - shift;
    }
    part.source.set(this.source.subarray(from, to));
    part.target.set(this.target.subarray(from, to));
    part.cell.set(this.cell.subarray(from, to));
    part.line.set(this.line.subarray(from, to));
    part.wall.set(this.wall.subarray(from, to));
    part.flags.set(this.flags.subarray(from, to));
    part.level.set(this.level.subarray(from, to));
    for (const [index, level] of this.ownLevels) {
      if (index >= from && index < to) {
        part.level[index - from] = level;
      }
    }
    part.template.set(this.template.subarray(from, to));
    for (const [index, bytes] of this.trueBytes) {
      if (index >= from && index < to) {
        part.trueBytes.set(index - from, bytes);
      }
    }
    part.hasEscape = this.hasEscape;
    part.hasMoves = this.hasMoves;
    part.hasBlocks = this.hasBlocks;
    part.size = part.text.length * (this.size > this.text.length ? 2 : 1);
    return part;
  }

  /** Add a mark to a line. */
  mark(index: number, mark: number): void {
    this.marks[index] = (this.marks[index] as number) | mark;
    this.marked = true;
  }

  /** A line says something else now; `wiped`: nothing. True where it was not so before: other rows
   * than before are lines of their own. */
  redraw(index: number, text: string, wiped: boolean): boolean {
    const marks = this.marks[index] as number;
    const now = RowMark.redrawn | (wiped ? RowMark.hidden : 0);
    if (!this.ownLevels.has(index)) {
      this.ownLevels.set(index, this.level[index] as number);
    }
    this.redrawn.set(index, text);
    this.level[index] = levelOf(text);
    this.marks[index] = now;
    this.marked = true;
    return marks !== now;
  }

  /** Forget what analysis has found. */
  clearMarks(): void {
    for (const [index, level] of this.ownLevels) {
      this.level[index] = level;
    }
    this.ownLevels.clear();
    this.redrawn.clear();
    this.marks.fill(0);
    this.blocks = [];
    this.marked = false;
  }

  /** The index of the line that a position of `text` is in. */
  lineAt(position: number): number {
    let low = 0;
    let high = this.count - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.offsets[middle] as number) <= position) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  /** Of each line the template that its own is part of now: equal for lines that are alike. */
  roots(templates: Templates): Uint32Array {
    const { revision } = templates;
    if (this.rootsAt !== revision) {
      this.rootsAt = revision;
      this.rootCount = 0;
    }
    if (this.rootCount < this.count) {
      if (this.rootColumn.length < this.count) {
        this.rootColumn = grown(this.rootColumn, new Uint32Array(this.source.length));
      }
      for (let index = this.rootCount; index < this.count; index += 1) {
        this.rootColumn[index] = templates.find(this.template[index] as number);
      }
      this.rootCount = this.count;
    }
    return this.rootColumn;
  }

  /** Put another line in the place of one: the whole of what was shortened. */
  replace(index: number, other: Segment, otherIndex: number): void {
    const text = other.raw(otherIndex);
    const start = this.offsets[index] as number;
    const end = (this.offsets[index + 1] as number) - 1;
    this.text = this.text.slice(0, start) + text + this.text.slice(end);
    for (let next = index + 1; next <= this.count; next += 1) {
      this.offsets[next] = (this.offsets[next] as number) + text.length - (end - start);
    }
    this.flags[index] = other.flags[otherIndex] as number;
    this.level[index] = other.level[otherIndex] as number;
    const bytes = other.trueBytes.get(otherIndex);
    if (bytes === undefined) {
      this.trueBytes.delete(index);
    } else {
      this.trueBytes.set(index, bytes);
    }
    this.hasEscape ||= other.hasEscape;
    this.hasMoves ||= other.hasMoves;
    this.size = this.text.length * (WIDE.test(this.text) ? 2 : 1);
    this.version += 1;
    this.shape += 1;
  }

  private reserve(count: number): void {
    if (count <= this.source.length) {
      return;
    }
    const capacity = Math.max(count, this.source.length * 2, 16);
    this.offsets = grown(this.offsets, new Uint32Array(capacity + 1));
    this.source = grown(this.source, new Uint32Array(capacity));
    this.target = grown(this.target, new Uint8Array(capacity));
    this.cell = grown(this.cell, new Int32Array(capacity));
    this.line = grown(this.line, new Uint32Array(capacity));
    this.wall = grown(this.wall, new Float64Array(capacity));
    this.flags = grown(this.flags, new Uint8Array(capacity));
    this.level = grown(this.level, new Uint8Array(capacity));
    this.marks = grown(this.marks, new Uint8Array(capacity));
    this.template = grown(this.template, new Uint32Array(capacity));
  }
}

function grown<Column extends { set(from: Column): void }>(from: Column, to: Column): Column {
  to.set(from);
  return to;
}
