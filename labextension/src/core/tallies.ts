/**
 * What the slots of many lines hold, counted as the lines come: of numbers the least, the greatest and
 * the median, of other texts which there are, how often and by whom. Adding is cheap; a result costs
 * little more than its size, however many values there are. A median is exact until there are too many
 * numbers to remember, and then that of evenly chosen ones ({@link keepAtMost}).
 */
import type { NumberValues, TextValues } from './api';
import { detached } from './detached';
import { foldRanks } from './ranks';

const RUN = 4096;
const LEAST_RUN = 16;
/** How many different texts a slot remembers, here and in the kernel. */
export const MOST_TEXTS = 10_000;
/** How much of a long one. */
const MOST_CHARS = 1000;
const TOP = 5;

export class NumberTally {
  private count = 0;
  private min = Infinity;
  private minRank = -1;
  private max = -Infinity;
  private maxRank = -1;
  /** How many numbers each stands for that is remembered. */
  private every = 1;
  /** Each in ascending order. */
  private runs: Float64Array[] = [];
  private open = new Float64Array(LEAST_RUN);
  private openCount = 0;
  private inRuns = 0;

  /** How many numbers there is room for now. */
  get room(): number {
    return this.inRuns + this.open.length;
  }

  /** Count a number, which is none of NaN and the infinities. */
  add(value: number, rank: number): void {
    if (value < this.min) {
      this.min = value;
      this.minRank = rank;
    }
    if (value > this.max) {
      this.max = value;
      this.maxRank = rank;
    }
    if (this.openCount === this.open.length) {
      const larger = new Float64Array(Math.min(RUN, 4 * this.open.length));
      larger.set(this.open);
      this.open = larger;
    }
    this.open[this.openCount++] = value;
    this.count += 1;
    if (this.openCount === RUN) {
      this.close();
      this.open = new Float64Array(RUN);
    }
  }

  /** Remember every second number only. */
  halve(): void {
    this.close();
    this.open = new Float64Array(LEAST_RUN);
    this.every *= 2;
    this.runs = this.runs.map((run, at) => everySecond(run, at));
    this.inRuns = sum(this.runs.map(run => run.length));
  }

  private close(): void {
    const run = this.chosen();
    this.inRuns += run.length;
    this.runs.push(run);
    this.openCount = 0;
  }

  /** Of the numbers that are in no run those to remember. */
  private chosen(): Float64Array {
    let run: Float64Array = this.open.subarray(0, this.openCount).sort();
    for (let every = this.every, at = this.runs.length; every > 1; every /= 2, at >>= 1) {
      run = everySecond(run, at);
    }
    return run;
  }

  /** Null where there is no number. */
  result(): NumberValues | null {
    const { count, min, minRank, max, maxRank } = this;
    if (count === 0) {
      return null;
    }
    const runs = [...this.runs, this.chosen()];
    const kept = sum(runs.map(run => run.length));
    const low = nth(runs, (kept - 1) >> 1);
    const high = kept % 2 === 1 ? low : nth(runs, kept >> 1);
    return { kind: '#', count, min, minRank, median: low / 2 + high / 2, max, maxRank };
  }
}

/** Make tallies remember no more than so many numbers together: those that remember most give up half. */
export function keepAtMost(most: number, tallies: readonly (NumberTally | TextTally)[]): void {
  const numbers = tallies.filter(tally => tally instanceof NumberTally);
  let room = sum(numbers.map(tally => tally.room));
  for (let before = Infinity; room > most && room < before; ) {
    before = room;
    for (const tally of numbers.sort((one, other) => other.room - one.room)) {
      if (room > most) {
        room -= tally.room;
        tally.halve();
        room += tally.room;
      }
    }
  }
}

/** From the first number on where `at` is even, else from the second; a single one stays. */
function everySecond(run: Float64Array, at: number): Float64Array {
  const from = run.length > 1 ? at % 2 : 0;
  const half = new Float64Array((run.length + 1 - from) >> 1);
  for (let to = 0; to < half.length; to += 1) {
    half[to] = run[from + 2 * to] as number;
  }
  return half;
}

/** The `n`th number, from 0, of all that ascending runs hold together. What is left of them is cut at the
 * weighted median of their medians each time, which leaves no more than three quarters. */
function nth(runs: readonly Float64Array[], n: number): number {
  const from = runs.map(() => 0);
  const to = runs.map(run => run.length);
  for (;;) {
    const pivot = pivotOf(runs, from, to);
    const less = runs.map((run, at) => bound(run, pivot, from[at] as number, to[at] as number, false));
    const notMore = runs.map((run, at) => bound(run, pivot, less[at] as number, to[at] as number, true));
    if (n < sum(less)) {
      less.forEach((end, at) => (to[at] = end));
    } else if (n >= sum(notMore)) {
      notMore.forEach((begin, at) => (from[at] = begin));
    } else {
      return pivot;
    }
  }
}

function pivotOf(runs: readonly Float64Array[], from: readonly number[], to: readonly number[]): number {
  const middles = runs
    .map((run, at) => {
      const [begin, end] = [from[at] as number, to[at] as number];
      return { value: run[(begin + end) >> 1] as number, weight: end - begin };
    })
    .filter(({ weight }) => weight > 0)
    .sort((one, other) => one.value - other.value);
  let half = sum(middles.map(({ weight }) => weight)) / 2;
  const middle = middles.find(({ weight }) => (half -= weight) <= 0);
  return middle?.value ?? NaN;
}

/** The first place from `low` to `high` of a number that is not less than `pivot` (`above`: greater). */
function bound(run: Float64Array, pivot: number, low: number, high: number, above: boolean): number {
  while (low < high) {
    const middle = (low + high) >> 1;
    const value = run[middle] as number;
    if (above ? value <= pivot : value < pivot) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

interface Entry {
  count: number;
  readonly ranks: Set<number>;
}

export class TextTally {
  private readonly entries = new Map<string, Entry>();
  /** Whether there have been others than the entries. */
  private more = false;

  add(text: string, rank: number): void {
    const value = text.length > MOST_CHARS ? `${text.slice(0, cutOf(text))}\u2026` : text;
    let entry = this.entries.get(value);
    if (entry === undefined) {
      if (this.entries.size >= MOST_TEXTS) {
        this.more = true;
        return;
      }
      entry = { count: 0, ranks: new Set() };
      this.entries.set(detached(value), entry);
    }
    entry.count += 1;
    entry.ranks.add(rank);
  }

  /** Null where there is no text. */
  result(): TextValues | null {
    if (this.entries.size === 0) {
      return null;
    }
    const top: [string, Entry][] = [];
    for (const each of this.entries) {
      const at = top.findIndex(([, { count }]) => count < each[1].count);
      if (at >= 0) {
        top.splice(at, 0, each);
        top.length = Math.min(TOP, top.length);
      } else if (top.length < TOP) {
        top.push(each);
      }
    }
    return {
      kind: '*',
      distinct: this.entries.size,
      more: this.more,
      top: top.map(([value, { count, ranks }]) => ({ value, count, ranks: foldRanks(ranks) }))
    };
  }
}

/** Where to cut a long text: no character is cut in two. */
function cutOf(text: string): number {
  return /[\ud800-\udbff]/.test(text.charAt(MOST_CHARS - 1)) ? MOST_CHARS - 1 : MOST_CHARS;
}
