/**
 * What the slots of groups hold: computed from the lines that this page holds, in short slices, for the
 * groups that somebody looks at; asked of the kernel where the page does not hold all lines.
 *
 *     wanted --slices--> read to its end --> results, slot by slot --> told; again a second later at the
 *     soonest, and only of the lines that are new, unless older ones have come
 */
import type { GroupValues, ISession, SlotValues } from './api';
import type { GroupedList } from './grouped';
import type { Group } from './groups';
import type { Visit } from './members';
import type { SlotTuple } from './protocol';
import { SlotKind } from './protocol';
import type { Scheduler } from './scheduler';
import { slotsOf } from './slots';
import type { Sources } from './sources';
import { keepAtMost, MOST_TEXTS, NumberTally, TextTally } from './tallies';
import { OTHERS } from './templates';
import type { Shape, Templates } from './templates';

const SLICE_MS = 3;
const PAUSE_MS = 12;
/** How much to do before the clock is looked at: characters, and so many for each line; or rows, whether
 * they are of the group or not. */
const LOOK_EACH = 16_384;
const LINE_COST = 128;
const LOOK_ROWS = 16_384;
const AGAIN_MS = 1000;
const ASK_AGAIN_MS = 10_000;
/** More slots than this are not looked at. */
const MOST_SLOTS = 40;
/** What was read is forgotten when it is so many times as many lines as are held, and not few. */
const MOST_TIMES_HELD = 2;
const FEW_LINES = 10_000;
/** How many numbers all slots remember together: 16 MB. */
const MOST_NUMBERS = 1 << 21;

/** Asks the kernel. */
export type AskValues = ISession['values'];

/** The values of one group. */
interface Reading {
  /** As it was when what is read now was begun, and what it had absorbed by then. */
  group: Group;
  joins: number;
  readonly shape: Shape;
  tallies: (NumberTally | TextTally)[];
  /** The row to go on with, and how many lines have been read. */
  row: number;
  lines: number;
  /** Results, while they are being made. */
  results: (SlotValues | null)[] | null;
  /** What was made last, and when. */
  told: GroupValues | null;
  madeAt: number;
  /** All has been read as of then. */
  done: boolean;
  stored: Stored;
}

/** What the kernel knows of a group. */
interface Stored {
  wanted: boolean;
  told: GroupValues | null;
  /** It was asked when the group had so many lines. */
  count: number;
  askedAt: number;
  waits: boolean;
}

export class Values {
  private readonly readings = new Map<string, Reading>();
  private stopTimer: (() => void) | null = null;
  private timerAt = Infinity;
  private version = 0;

  /** `tell` is called when there is something new. */
  constructor(
    private readonly list: GroupedList,
    private readonly sources: Sources,
    private readonly templates: Templates,
    private readonly scheduler: Scheduler,
    private readonly ask: AskValues,
    private readonly tell: () => void
  ) {}

  /** What is known by now of the group with an id; from now on it is kept up to date. `stored`: ask the
   * kernel where the page does not hold all lines. */
  of(id: string, stored: boolean): GroupValues | null {
    const group = this.list.group(id);
    const shape = group === undefined ? null : this.templates.shape(group.template);
    if (group === undefined || shape === null || !hasValues(group, shape)) {
      return null;
    }
    let reading = this.readings.get(id);
    if (reading?.shape !== shape) {
      reading = newReading(group, shape);
      this.readings.set(id, reading);
    }
    reading.stored.wanted = stored;
    this.wakeIn(this.wait(group, reading));
    const ofAll = stored && group.count > group.held ? reading.stored.told : null;
    return ofAll === null ? reading.told : widened(ofAll, reading.told);
  }

  drop(id: string): void {
    this.readings.delete(id);
  }

  /** Forget all: other lines than before pass. */
  clear(): void {
    this.readings.clear();
    this.stopTimer?.();
    this.stopTimer = null;
    this.timerAt = Infinity;
  }

  /** In how many milliseconds there is something to do. */
  private wait(group: Group, reading: Reading): number {
    return Math.min(this.waitToRead(group, reading), this.waitToAsk(group, reading));
  }

  private waitToRead(group: Group, reading: Reading): number {
    const { done, madeAt, row } = reading;
    if (!done) {
      return 0;
    }
    return isOf(reading, group) && row > group.lastRow
      ? Infinity
      : Math.max(0, madeAt + AGAIN_MS - this.scheduler.now());
  }

  private waitToAsk(group: Group, { stored }: Reading): number {
    const { wanted, waits, count, askedAt } = stored;
    return !wanted || waits || group.count <= group.held || group.count === count
      ? Infinity
      : Math.max(0, askedAt + ASK_AGAIN_MS - this.scheduler.now());
  }

  private wakeIn(wait: number): void {
    const at = this.scheduler.now() + Math.max(PAUSE_MS, wait);
    if (wait < Infinity && at < this.timerAt) {
      this.stopTimer?.();
      this.timerAt = at;
      this.stopTimer = this.scheduler.later(() => this.slice(), Math.max(PAUSE_MS, wait));
    }
  }

  private slice(): void {
    this.stopTimer = null;
    this.timerAt = Infinity;
    const deadline = this.scheduler.now() + SLICE_MS;
    let told = false;
    let wait = Infinity;
    for (const [id, reading] of this.readings) {
      const group = this.list.group(id);
      if (group === undefined) {
        continue;
      }
      if (this.waitToAsk(group, reading) === 0) {
        this.askFor(id, group, reading);
      }
      if (this.waitToRead(group, reading) === 0 && this.scheduler.now() < deadline) {
        told = this.read(group, reading, deadline) || told;
      }
      wait = Math.min(wait, this.wait(group, reading));
    }
    keepAtMost(MOST_NUMBERS, [...this.readings.values()].flatMap(({ tallies }) => tallies));
    this.wakeIn(wait);
    if (told) {
      this.tell();
    }
  }

  /** Read on. True where there are new results. */
  private read(group: Group, reading: Reading, deadline: number): boolean {
    if (reading.done) {
      reading.done = false;
      if (!isOf(reading, group) || reading.lines > MOST_TIMES_HELD * Math.max(group.held, FEW_LINES)) {
        reading.group = group;
        reading.joins = group.joins;
        reading.row = group.row;
        reading.lines = 0;
        reading.tallies = talliesOf(reading.shape);
      }
    }
    if (reading.results === null) {
      do {
        reading.row = this.readSome(reading);
      } while (reading.row <= reading.group.lastRow && this.scheduler.now() < deadline);
      if (reading.row <= reading.group.lastRow) {
        return false;
      }
    }
    const results = (reading.results ??= []);
    while (results.length < reading.tallies.length) {
      if (this.scheduler.now() >= deadline) {
        return false;
      }
      results.push((reading.tallies[results.length] as NumberTally | TextTally).result());
    }
    reading.results = null;
    reading.done = true;
    reading.madeAt = this.scheduler.now();
    const { lines } = reading;
    const whole = lines === group.count;
    reading.told = { slots: results, lines, stored: false, whole, version: ++this.version };
    return true;
  }

  /** Read what the clock need not be looked at for. Gives the row to go on with. */
  private readSome(reading: Reading): number {
    let work = 0;
    const count: Visit = (segment, index) => {
      const line = segment.raw(index);
      this.count(reading, line, this.sources.at(segment.source[index] as number).rank);
      work += LINE_COST + line.length;
      return work < LOOK_EACH;
    };
    return this.list.walk(reading.group, reading.row, count, LOOK_ROWS);
  }

  private count(reading: Reading, line: string, rank: number): void {
    reading.lines += 1;
    const slots = slotsOf(line, reading.shape);
    if (slots === null) {
      return;
    }
    for (let slot = 0; slot < reading.tallies.length; slot += 1) {
      const tally = reading.tallies[slot];
      const text = slots[slot] as string;
      if (tally instanceof TextTally) {
        tally.add(text, rank);
      } else {
        const number = Number(text);
        if (Number.isFinite(number)) {
          tally?.add(number, rank);
        }
      }
    }
  }

  private askFor(id: string, group: Group, { stored, shape }: Reading): void {
    stored.waits = true;
    stored.count = group.count;
    stored.askedAt = this.scheduler.now();
    const { template, target, job, row: first, lastRow } = group;
    this.ask({ template, target, job, cell: this.list.cellOf(group), first, end: lastRow + 1 }).then(
      ({ values, lines, whole }) => {
        stored.waits = false;
        const slots = storedSlots(values, shape);
        if (this.readings.get(id)?.stored === stored && slots !== null) {
          stored.told = { slots, lines, stored: true, whole, version: ++this.version };
          this.tell();
        }
      },
      () => {
        stored.waits = false; // what the page holds is shown
      }
    );
  }
}

function hasValues({ differs, redrawn, template }: Group, { kinds }: Shape): boolean {
  return differs && !redrawn && template !== OTHERS && kinds.length > 0;
}

/** Whether what has been read are lines of the group as it is now. */
function isOf(reading: Reading, group: Group): boolean {
  return reading.group === group && reading.joins === group.joins;
}

function newReading(group: Group, shape: Shape): Reading {
  const stored = { wanted: false, told: null, count: -1, askedAt: -Infinity, waits: false };
  return {
    group, shape, stored,
    joins: group.joins,
    tallies: talliesOf(shape),
    row: group.row,
    lines: 0,
    results: null,
    told: null,
    madeAt: -Infinity,
    done: false
  };
}

function talliesOf({ kinds }: Shape): (NumberTally | TextTally)[] {
  return Array.from(kinds.slice(0, MOST_SLOTS), kind =>
    kind === SlotKind.number ? new NumberTally() : new TextTally()
  );
}

/** The kernel's answer; null where it is about another shape. */
function storedSlots(values: readonly SlotTuple[], { kinds }: Shape): (SlotValues | null)[] | null {
  return values.length === kinds.length && values.every(([kind], slot) => kind === kinds[slot])
    ? values.slice(0, MOST_SLOTS).map(storedSlot)
    : null;
}

function storedSlot(tuple: SlotTuple): SlotValues | null {
  if (tuple[0] === SlotKind.text) {
    const [, distinct, top] = tuple;
    const named = top.map(([value, count, ranks]) => ({ value, count, ranks }));
    return distinct > 0 ? { kind: '*', distinct, more: distinct >= MOST_TEXTS, top: named } : null;
  }
  const [, count, min, minRank, median, max, maxRank] = tuple;
  return count > 0 ? { kind: '#', count, min, minRank, median, max, maxRank } : null;
}

/** What the kernel has told, which had no time for all lines, with the extremes of those on the page. */
function widened(told: GroupValues, held: GroupValues | null): GroupValues {
  if (told.whole || held === null) {
    return told;
  }
  const slots = told.slots.map((slot, at) => {
    const other = held.slots[at];
    if (slot?.kind !== SlotKind.number || other?.kind !== SlotKind.number) {
      return slot;
    }
    const least = other.min < slot.min ? { min: other.min, minRank: other.minRank } : {};
    const most = other.max > slot.max ? { max: other.max, maxRank: other.maxRank } : {};
    return { ...slot, ...least, ...most };
  });
  return { ...told, slots, version: Math.max(told.version, held.version) };
}
