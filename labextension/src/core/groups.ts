/**
 * What a group of lines is, and which lines belong to it: those of one template, target and job. Others
 * (of more kinds than the kernel remembers) also need to state the same level.
 */
import type { SkipItem } from './api';
import { levelSlot } from './levels';
import type { Segment } from './segment';
import type { Sources } from './sources';
import { OTHERS } from './templates';
import type { Block } from './tracebacks';

export interface Group {
  id: string;
  /** Row of its first line. */
  row: number;
  lastRow: number;
  readonly target: number;
  readonly job: string;
  readonly cell: number;
  readonly level: number;
  /** Text of its first line. */
  readonly text: string;
  /** As `Templates.find` gives it. */
  template: number;
  /** Whether its lines are not all the same. */
  differs: boolean;
  count: number;
  held: number;
  readonly ranks: Set<number>;
  /** The rank that was added last. */
  lastRank: number;
  firstWall: number;
  lastWall: number;
  /** Counts groups that it has absorbed. */
  joins: number;
  /** Set where it stands for blocks, or for one line that is redrawn, or for skipped lines of which only a
   * text is told. */
  readonly block: Block | null;
  readonly redrawn: boolean;
  readonly textOnly: boolean;
}

/** Groups that belong together; or a skip that stands between them. */
export interface GroupWindow {
  readonly id: string;
  readonly cell: number;
  readonly row: number;
  /** Wall time of the line that opened it. */
  readonly opened: number;
  firstWall: number;
  lastWall: number;
  lines: number;
  groups: Group[];
  /** Of lines, by {@link GroupKeys}. */
  readonly byKey: Map<number, Group>;
  /** Blocks and lines that are redrawn. */
  readonly byName: Map<string, Group>;
  /** As it was when it was read: lines that leave the page later stay counted in their groups. */
  readonly skip: SkipItem | null;
}

/** How many kinds of streams there may be. */
const MOST_STREAMS = 2 ** 20;

/** Numbers for what tells groups apart. Those of one table are comparable. */
export class GroupKeys {
  private readonly streams = new Map<string, number>();
  /** Of sources, by target and level. */
  private readonly streamsOf: number[] = [];

  constructor(private readonly sources: Sources) {}

  /** Of a line, with the roots of its segment. */
  ofLine(segment: Segment, index: number, roots: Uint32Array): number {
    const root = roots[index] as number;
    const target = segment.target[index] as number;
    const source = segment.source[index] as number;
    const slot = root === OTHERS ? levelSlot(segment.level[index] as number) : 0;
    const at = (source * 4 + target) * 8 + slot;
    let stream = this.streamsOf[at];
    if (stream === undefined) {
      stream = this.streamOf(target, this.sources.at(source).job, slot);
      this.streamsOf[at] = stream;
    }
    return root * MOST_STREAMS + stream;
  }

  /** Of lines whose template is part of `template` now. */
  of({ template, target, job, level }: Pick<Group, 'template' | 'target' | 'job' | 'level'>): number {
    const slot = template === OTHERS ? levelSlot(level) : 0;
    return template * MOST_STREAMS + this.streamOf(target, job, slot);
  }

  private streamOf(target: number, job: string, slot: number): number {
    const name = `${target} ${slot} ${job}`;
    let stream = this.streams.get(name);
    if (stream === undefined) {
      stream = this.streams.size;
      this.streams.set(name, stream);
    }
    return stream;
  }
}

/** The id of a group with a key: the same each time that rows are read. */
export function idOf(
  window: GroupWindow,
  key: string | number,
  { template, target, job, level }: Pick<Group, 'template' | 'target' | 'job' | 'level'>
): string {
  return `g${window.id} ${typeof key === 'string' ? key : `${template} ${target} ${level} ${job}`}`;
}

const LINES_ID = /^g(\S+) (\d+) (\d+) (\d+) (.*)$/s;

/** What the id of a group of lines says of it; null where it is none of these. */
export function readId(
  id: string
): (Pick<Group, 'template' | 'target' | 'job' | 'level'> & { window: string }) | null {
  const match = LINES_ID.exec(id);
  if (match === null) {
    return null;
  }
  const [template, target, level] = match.slice(2, 5).map(Number) as [number, number, number];
  return { window: match[1] as string, template, target, level, job: match[5] as string };
}

/** The group of a window with a key. */
export function groupIn(window: GroupWindow, key: string | number): Group | undefined {
  return typeof key === 'number' ? window.byKey.get(key) : window.byName.get(key);
}

/** Count what another group counts. */
export function absorb(group: Group, other: Group): void {
  group.joins += 1;
  group.row = Math.min(group.row, other.row);
  group.lastRow = Math.max(group.lastRow, other.lastRow);
  group.differs ||= other.differs || group.text !== other.text;
  group.count += other.count;
  group.held += other.held;
  group.firstWall = Math.min(group.firstWall, other.firstWall);
  group.lastWall = Math.max(group.lastWall, other.lastWall);
  for (const rank of other.ranks) {
    group.ranks.add(rank);
  }
}
