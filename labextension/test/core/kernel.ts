/** A stand-in for the kernel: messages by number, a transport that a test holds both ends of, a clock. */
import type { ITransport } from '../../src/core/api';
import type { RequestMessage, RowsMessage, SkipMessage, SourceTuple } from '../../src/core/protocol';
import type { Scheduler } from '../../src/core/scheduler';

export interface Line {
  text: string;
  source?: number;
  target?: number;
  cell?: number;
  wall?: number;
  flags?: number;
  trueBytes?: number;
}

const encoder = new TextEncoder();

export function sourceOf(id: number): SourceTuple {
  return [id, id % 8, id < 8 ? '' : 'job 1', `host${id % 2}`, 1000 + id];
}

/** What a kernel's store would hold: rows with the numbers within their streams. */
export class FakeKernel {
  readonly lines: (Required<Line> & { row: number; line: number })[] = [];
  n = 0;
  private readonly nextLine = new Map<string, number>();

  add(...lines: (Line | string)[]): void {
    for (const line of lines) {
      const given = typeof line === 'string' ? { text: line } : line;
      const row = this.lines.length;
      const full = {
        source: 0, target: 1, cell: 1, wall: 1000 + row / 100, flags: 0, trueBytes: 0, ...given, row
      };
      const stream = `${full.source} ${full.target}`;
      const number = this.nextLine.get(stream) ?? 0;
      this.nextLine.set(stream, number + 1);
      this.lines.push({ ...full, line: number });
    }
  }

  /** The message of some rows, all of them as lines but for what is in skips. */
  rows(
    first: number,
    end: number,
    { live = false, skips = [] }: { live?: boolean; skips?: SkipMessage[] } = {}
  ): { message: RowsMessage; buffer: DataView } {
    const chunks: RowsMessage['chunks'] = [];
    const marks: RowsMessage['marks'] = [];
    const sources = new Map<number, SourceTuple>();
    let text = '';
    for (const line of this.lines.slice(first, end)) {
      if (skips.some(skip => line.row >= skip.first && line.row < skip.end)) {
        continue;
      }
      sources.set(line.source, sourceOf(line.source));
      const bytes = encoder.encode(`${line.text}\n`).length;
      const last = chunks[chunks.length - 1];
      if (
        last !== undefined &&
        last[0] === line.source && last[1] === line.target && last[2] === line.cell &&
        last[6] === line.wall && last[3] + last[5] === line.row
      ) {
        last[5] += 1;
        last[7] += bytes;
      } else {
        chunks.push([line.source, line.target, line.cell, line.row, line.line, 1, line.wall, bytes]);
      }
      if (line.flags !== 0) {
        marks.push([line.row, line.flags, line.trueBytes]);
      }
      text += `${line.text}\n`;
    }
    const message: RowsMessage = {
      logmesh: 1, session: 's', n: ++this.n, type: 'rows', live, first, end,
      sources: [...sources.values()], chunks, marks, skips
    };
    const bytes = encoder.encode(text);
    return { message, buffer: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
  }
}

/** Time by hand. */
export class HandScheduler implements Scheduler {
  time = 0;
  /** How long a look at the clock takes. */
  cost = 0;
  private tasks: { at: number; work: () => void }[] = [];
  private micro: (() => void)[] = [];

  now(): number {
    this.time += this.cost;
    return this.time;
  }

  soon(work: () => void): void {
    this.micro.push(work);
  }

  later(work: () => void, milliseconds: number): () => void {
    const task = { at: this.time + milliseconds, work };
    this.tasks.push(task);
    return () => {
      this.tasks = this.tasks.filter(each => each !== task);
    };
  }

  /** End the task that runs now. */
  settle(): void {
    while (this.micro.length > 0) {
      this.micro.shift()?.();
    }
  }

  /** Let time pass, and what is due happen. */
  run(milliseconds: number): void {
    const end = this.time + milliseconds;
    this.settle();
    for (;;) {
      const next = this.tasks
        .filter(task => task.at <= end)
        .sort((one, other) => one.at - other.at)[0];
      if (next === undefined) {
        break;
      }
      this.tasks = this.tasks.filter(each => each !== next);
      this.time = Math.max(this.time, next.at);
      next.work();
      this.settle();
    }
    this.time = end;
  }
}

export class FakeTransport implements ITransport {
  readonly sent: RequestMessage[] = [];
  private listener: (data: unknown, buffer: DataView | null) => void = () => undefined;
  private closed: () => void = () => undefined;

  send(message: object): void {
    this.sent.push(message as RequestMessage);
  }

  onMessage(listener: (data: unknown, buffer: DataView | null) => void): void {
    this.listener = listener;
  }

  onClose(listener: () => void): void {
    this.closed = listener;
  }

  dispose(): void {
    this.closed();
  }

  receive(message: object, buffer: DataView | null = null): void {
    this.listener(message, buffer);
  }

  ofType(type: string): RequestMessage[] {
    return this.sent.filter(message => message.type === type);
  }
}

/** Numbers from 0 to 1 that a seed decides (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export function last<Value>(values: readonly Value[]): Value | undefined {
  return values[values.length - 1];
}
