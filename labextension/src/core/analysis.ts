/**
 * What only the order of a stream's lines tells: tracebacks, and rows that rewrite earlier ones. Marks
 * the rows of the store's segments ({@link RowMark}), and fills their blocks and redrawn texts.
 *
 * Rows at the end are read once; when rows come elsewhere, all is read anew. Segments in which nothing
 * of this kind begins or goes on are not looked at line by line.
 */
import { hasMove, nextMove, Screen } from './carriage';
import type { ScreenLine } from './carriage';
import type { LineStore } from './lines';
import { LineFlag } from './protocol';
import { RowMark, Segment } from './segment';
import { beginsBlock, BLOCK_SIGN, BlockReader } from './tracebacks';

const LOOK_BACK_ROWS = 20_000;
const LOOK_BACK_LINES = 50;

interface Stream {
  reader: BlockReader | null;
  screen: Screen | null;
  /** The number of the line that goes on where the last one ended. */
  next: number;
  cell: number;
}

export class Analysis {
  /** Streams of which something goes on. */
  private streams = new Map<number, Stream>();
  private end = 0;
  private structure = -1;

  constructor(private readonly store: LineStore) {}

  /** Bring the marks up to date with the store. */
  update(): void {
    const { store } = this;
    if (store.structure !== this.structure) {
      this.structure = store.structure;
      if (!this.plain()) {
        this.readAgain();
      }
    } else {
      for (let at = Math.max(0, store.indexOf(this.end)); at < store.parts.length; at += 1) {
        const part = store.parts[at];
        if (part instanceof Segment && part.end > this.end) {
          this.read(part, Math.max(0, this.end - part.first));
        }
      }
    }
    this.end = store.end;
  }

  /** An unfinished line that rewrites a bar which a row stands for is shown there. True where it is. */
  showUnfinished(source: number, target: number, text: string): boolean {
    const line = this.streams.get(source * 4 + target)?.screen?.lineLike(text);
    const segment = line === undefined ? null : this.store.segmentOf(line.row);
    if (line === undefined || segment === null) {
      return false;
    }
    this.touch(line.row, segment.redraw(line.row - segment.first, text, false));
    return true;
  }

  /** Whether there is nothing to be found, and nothing has been. */
  private plain(): boolean {
    return (
      this.streams.size === 0 &&
      this.store.parts.every(
        part => !(part instanceof Segment) || !(part.hasBlocks || part.hasMoves || part.marked)
      )
    );
  }

  private readAgain(): void {
    const before = new Map<Segment, Findings>();
    for (const part of this.store.parts) {
      if (part instanceof Segment && (part.hasBlocks || part.hasMoves || part.marked)) {
        before.set(part, findings(part));
        part.clearMarks();
      }
    }
    this.streams.clear();
    this.end = 0; // all rows are new ones: none is touched
    for (const part of this.store.parts) {
      if (part instanceof Segment) {
        this.read(part, 0);
      }
    }
    for (const part of this.store.parts) {
      if (part instanceof Segment && (part.marked || before.has(part))) {
        const old = before.get(part);
        if (old === undefined || !sameFindings(old, findings(part))) {
          part.version += 1;
          part.shape += 1;
        }
      }
    }
  }

  private read(segment: Segment, from: number): void {
    const begins = candidates(segment, from);
    if (begins.size === 0 && this.streams.size === 0) {
      return;
    }
    for (let index = from; index < segment.count; index += 1) {
      const key = (segment.source[index] as number) * 4 + (segment.target[index] as number);
      const stream = this.streams.get(key);
      if (stream !== undefined) {
        this.goOn(segment, index, key, stream);
      }
      if (begins.has(index) && !isMarked(segment, index)) {
        this.begin(segment, index, key);
      }
    }
    for (const stream of this.streams.values()) {
      this.draw(stream);
    }
  }

  /** Something of the line's stream goes on: does the line belong to it? */
  private goOn(segment: Segment, index: number, key: number, stream: Stream): void {
    const row = segment.first + index;
    const continues =
      segment.line[index] === stream.next && segment.cell[index] === stream.cell;
    if (!continues) {
      this.close(key, stream);
      return;
    }
    stream.next += 1;
    const text = segment.raw(index);
    if (stream.reader !== null) {
      const { block } = stream.reader;
      const had = block.rows.length;
      const key = block.key;
      const belongs = stream.reader.feed(row, text);
      for (let at = had; at < block.rows.length; at += 1) {
        this.mark(block.rows[at] as number, RowMark.member);
      }
      if (block.rows.length > had || !belongs) {
        this.touch(block.head, key !== '' && key !== block.key);
      }
      if (!belongs) {
        stream.reader = null;
      }
    }
    if (stream.screen !== null && !isMarked(segment, index)) {
      if (!stream.screen.feed(row, text)) {
        this.mark(row, RowMark.hidden);
      }
      if (stream.screen.idle) {
        this.draw(stream);
        stream.screen = null;
      }
    }
    if ((segment.flags[index] as number) & LineFlag.partial) {
      this.close(key, stream);
    } else if (stream.reader === null && stream.screen === null) {
      this.streams.delete(key);
    }
  }

  private begin(segment: Segment, index: number, key: number): void {
    const row = segment.first + index;
    const text = segment.raw(index);
    let stream = this.streams.get(key);
    if (stream === undefined) {
      const next = (segment.line[index] as number) + 1;
      stream = { reader: null, screen: null, next, cell: segment.cell[index] as number };
      this.streams.set(key, stream);
    }
    if (stream.screen === null && hasMove(text)) {
      stream.screen = new Screen(this.linesAbove(segment, index), above => this.holds(above));
      if (!stream.screen.feed(row, text)) {
        this.mark(row, RowMark.hidden);
      }
    } else if (stream.reader === null && beginsBlock(text)) {
      const block = {
        head: row,
        source: segment.source[index] as number,
        target: segment.target[index] as number,
        cell: segment.cell[index] as number,
        wall: segment.wall[index] as number,
        rows: [row],
        title: '',
        open: true,
        key: ''
      };
      stream.reader = new BlockReader(block, text);
      segment.mark(index, RowMark.head);
      segment.blocks.push(block);
    }
    if (stream.reader === null && stream.screen === null) {
      this.streams.delete(key);
    }
  }

  private close(key: number, stream: Stream): void {
    if (stream.reader !== null) {
      stream.reader.end();
      this.touch(stream.reader.block.head);
    }
    this.draw(stream);
    this.streams.delete(key);
  }

  /** Bring what a screen says now to the rows that stand for its lines. */
  private draw({ screen }: Stream): void {
    if (screen === null || screen.changed.size === 0) {
      return;
    }
    for (const line of screen.changed) {
      const segment = this.store.segmentOf(line.row);
      if (segment !== null) {
        const other = segment.redraw(line.row - segment.first, line.text, line.wiped);
        this.touch(line.row, other);
      }
    }
    screen.changed.clear();
  }

  /** The lines that the stream of a line has written before it, as far as they are held. */
  private linesAbove(segment: Segment, index: number): ScreenLine[] {
    const lines: ScreenLine[] = [];
    const { store } = this;
    let want = segment.line[index] as number;
    const source = segment.source[index];
    const target = segment.target[index];
    const cell = segment.cell[index];
    let at = store.indexOf(segment.first);
    let part: Segment | null = segment;
    let from = index;
    for (let looked = 0; part !== null; ) {
      for (let above = from - 1; above >= 0; above -= 1) {
        looked += 1;
        if (looked > LOOK_BACK_ROWS || lines.length >= LOOK_BACK_LINES) {
          return lines.reverse();
        }
        if (part.source[above] !== source || part.target[above] !== target) {
          continue;
        }
        if (
          part.line[above] !== want - 1 ||
          part.cell[above] !== cell ||
          isMarked(part, above) ||
          (part.flags[above] as number) & LineFlag.partial
        ) {
          return lines.reverse();
        }
        want -= 1;
        lines.push({ row: part.first + above, text: part.shown(above), wiped: false });
      }
      do {
        at -= 1;
      } while (at >= 0 && !(store.parts[at] instanceof Segment));
      const before = store.parts[at];
      part = before instanceof Segment ? before : null;
      from = part?.count ?? 0;
    }
    return lines.reverse();
  }

  private holds(row: number): boolean {
    return this.store.segmentOf(row) !== null;
  }

  private mark(row: number, mark: number): void {
    const segment = this.store.segmentOf(row);
    if (segment !== null) {
      segment.mark(row - segment.first, mark);
      this.touch(row, true);
    }
  }

  /** A row is not what it was; that matters where others know it already. */
  private touch(row: number, shape = false): void {
    const segment = row < this.end ? this.store.segmentOf(row) : null;
    if (segment !== null) {
      segment.version += 1;
      segment.shape += shape ? 1 : 0;
    }
  }
}

function isMarked(segment: Segment, index: number): boolean {
  return (segment.marks[index] as number) !== 0;
}

interface Findings {
  marks: Uint8Array;
  texts: string;
}

function findings(segment: Segment): Findings {
  const blocks = segment.blocks.map(block => [block.head, block.rows.length, block.key]);
  return {
    marks: segment.marks.slice(0, segment.count),
    texts: JSON.stringify([blocks, [...segment.redrawn]])
  };
}

function sameFindings(one: Findings, other: Findings): boolean {
  return (
    one.texts === other.texts &&
    one.marks.length === other.marks.length &&
    one.marks.every((mark, index) => mark === other.marks[index])
  );
}

/** Indices of lines from `from` on at which a block or a screen may begin. */
function candidates(segment: Segment, from: number): Set<number> {
  const found = new Set<number>();
  const { text } = segment;
  const begin = segment.offsets[from] as number;
  if (segment.hasBlocks) {
    for (let at = text.indexOf(BLOCK_SIGN, begin); at >= 0; at = text.indexOf(BLOCK_SIGN, at + 1)) {
      found.add(segment.lineAt(at));
    }
  }
  if (segment.hasMoves) {
    for (let at = nextMove(text, begin); at >= 0; at = nextMove(text, at + 1)) {
      found.add(segment.lineAt(at));
    }
  }
  return found;
}
