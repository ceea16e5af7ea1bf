/** The procs as the kernel told of them last, with rates and ages as of now. */
import type { Proc } from './api';
import type { ProcsMessage, ProcTuple } from './protocol';

const WINDOW_MS = 3000;

interface Sample {
  at: number;
  lines: number;
}

interface Entry {
  tuple: ProcTuple;
  samples: Sample[];
}

export class ProcTable {
  private entries = new Map<number, Entry>();
  private wall = 0;
  private wallAt = 0;
  private list: Proc[] | null = null;
  private listAt = 0;

  /** `now`: monotonic milliseconds, of one clock at all calls. */
  update(message: ProcsMessage, now: number): void {
    const before = this.entries;
    if (message.full) {
      this.entries = new Map();
    }
    this.wall = message.now;
    this.wallAt = now;
    for (const tuple of message.procs) {
      const samples = before.get(tuple[0])?.samples ?? [];
      samples.push({ at: now, lines: tuple[7] });
      // One sample that is older than the window is what the rate is measured from.
      while (samples.length > 1 && (samples[1] as Sample).at <= now - WINDOW_MS) {
        samples.shift();
      }
      this.entries.set(tuple[0], { tuple, samples });
    }
    this.list = null;
  }

  /** By rank, then job. */
  at(now: number): readonly Proc[] {
    if (this.list === null || now - this.listAt >= 100) {
      this.list = [...this.entries.values()]
        .map(entry => this.proc(entry, now))
        .sort((one, other) => one.rank - other.rank || compare(one.job, other.job) || one.id - other.id);
      this.listAt = now;
    }
    return this.list;
  }

  private proc({ tuple, samples }: Entry, now: number): Proc {
    const [id, rank, job, host, pid, state, code, lines, lastWall, skipped, lost] = tuple;
    const age = this.wall + (now - this.wallAt) / 1000 - lastWall;
    return {
      id, rank, job, host, pid, state, code, lines, skipped, lost,
      rate: rateOf(samples, now),
      age: lastWall > 0 ? Math.max(0, age) : Infinity
    };
  }
}

function rateOf(samples: readonly Sample[], now: number): number {
  let base = samples[0];
  for (const sample of samples) {
    if (sample.at <= now - WINDOW_MS) {
      base = sample;
    }
  }
  const last = samples[samples.length - 1];
  if (base === undefined || last === undefined || last.lines <= base.lines) {
    return 0;
  }
  return ((last.lines - base.lines) * 1000) / Math.max(1000, now - base.at);
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
