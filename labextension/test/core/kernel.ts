/** A stand-in for the kernel: messages by number, a transport that a test holds both ends of, a clock. */
import type { ITransport } from '../../src/core/api';
import { levelOf } from '../../src/core/levels';
import type {
  RequestMessage,
  RowsMessage,
  SkipMessage,
  SourceTuple,
  TemplateTuple
} from '../../src/core/protocol';
import type { Scheduler } from '../../src/core/scheduler';

export interface Line {
  text: string;
  source?: number;
  target?: number;
  cell?: number;
  wall?: number;
  flags?: number;
  trueBytes?: number;
  /** By default that of {@link FakeKernel.like}. */
  template?: number;
}

const NUMBER = /\d+(?:\.\d+)*/g;

const encoder = new TextEncoder();

export function sourceOf(id: number): SourceTuple {
  return [id, id % 8, id < 8 ? '' : 'job 1', `host${id % 2}`, 1000 + id];
}

/** What a kernel's store would hold: rows with the numbers within their streams. Lines are alike here that
 * differ in numbers only, unless a test says more. */
export class FakeKernel {
  readonly lines: (Required<Line> & { row: number; line: number })[] = [];
  /** By id; sent with each message that needs them, and all those that are merged. */
  readonly templates = new Map<number, TemplateTuple>();
  sendsTemplates = true;
  sendsIds = true;
  n = 0;
  private readonly ids = new Map<string, number>();
  private readonly nextLine = new Map<string, number>();

  add(...lines: (Line | string)[]): void {
    for (const line of lines) {
      const given = typeof line === 'string' ? { text: line } : line;
      const row = this.lines.length;
      const full = {
        source: 0, target: 1, cell: 1, wall: 1000 + row / 100, flags: 0, trueBytes: 0,
        template: given.template ?? this.like(given.text),
        ...given,
        row
      };
      const stream = `${full.source} ${full.target}`;
      const number = this.nextLine.get(stream) ?? 0;
      this.nextLine.set(stream, number + 1);
      this.lines.push({ ...full, line: number });
    }
  }

  /** The template of a text. */
  like(text: string): number {
    const pieces = text.split(NUMBER);
    const key = JSON.stringify(pieces);
    let id = this.ids.get(key);
    if (id === undefined) {
      id = this.ids.size + 1;
      this.ids.set(key, id);
      this.templates.set(id, [id, id, pieces, '#'.repeat(pieces.length - 1), levelOf(text)]);
    }
    return id;
  }

  /** A template becomes part of another. */
  merge(id: number, into: number): void {
    this.templates.set(id, [id, into, [], '', 0]);
  }

  /** A message that only tells templates. */
  telling(...ids: number[]): RowsMessage {
    return { ...this.rows(0, 0).message, templates: ids.map(id => this.templates.get(id) as TemplateTuple) };
  }

  private templatesOf(ids: Iterable<number>): TemplateTuple[] {
    const needed = new Set(ids);
    for (const id of needed) {
      const into = this.templates.get(id)?.[1];
      if (into !== undefined) {
        needed.add(into);
      }
    }
    return [...this.templates.values()].filter(([id, into]) => needed.has(id) || id !== into);
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
    const ids: number[] = [];
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
      ids.push(line.template);
    }
    const message: RowsMessage = {
      logmesh: 1, session: 's', n: ++this.n, type: 'rows', live, first, end,
      sources: [...sources.values()], chunks, marks, skips
    };
    if (this.sendsTemplates) {
      const skipped = skips.flatMap(({ groups }) => groups.map(group => group[7]));
      message.templates = this.templatesOf([...ids, ...skipped]);
    }
    const bytes = encoder.encode(text);
    // Somewhere in a larger buffer, as where a transport takes frames apart.
    const buffer = new ArrayBuffer(1 + bytes.length + (this.sendsIds ? 4 * ids.length : 0));
    new Uint8Array(buffer).set(bytes, 1);
    const view = new DataView(buffer, 1);
    for (const [at, id] of this.sendsIds ? ids.entries() : []) {
      view.setUint32(bytes.length + 4 * at, id, true);
    }
    return { message, buffer: view };
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
