/** The list of groups: windows with their heads, groups, and skips that no group counts. */
import type { Item, LineItem } from './api';
import { Fold } from './fold';
import type { Group, GroupWindow } from './groups';
import type { ItemMaker } from './items';
import type { LineStore } from './lines';
import type { MatchCache } from './matches';
import { Members } from './members';
import type { Visit } from './members';
import type { ItemList } from './plain';
import type { Scheduler } from './scheduler';
import type { Segment } from './segment';
import type { Sources } from './sources';
import { OTHERS, templateText } from './templates';
import type { Templates } from './templates';

const MANY_GROUPS = 20_000;
const ERROR = 40;

export class GroupedList implements ItemList {
  length = 0;
  private fold: Fold | null = null;
  private next: Fold | null = null;
  private starts: number[] = [];
  private groupsWhenMade = 0;
  private cell: number | null = null;
  private readonly members: Members;

  constructor(
    private readonly store: LineStore,
    private readonly sources: Sources,
    private readonly matches: MatchCache,
    private readonly items: ItemMaker,
    private readonly templates: Templates
  ) {
    this.members = new Members(store, sources, matches, templates);
  }

  /** What was read is of no use any more; what is shown stays until there is something new. */
  reset(cell: number | null, window: number | null): void {
    this.cell = cell;
    this.next = new Fold(this.store, this.sources, this.matches, this.items, this.templates, cell, window);
  }

  /** Hold nothing until the next reset. */
  clear(): void {
    this.fold = null;
    this.next = null;
    this.measure();
  }

  /** Read on until the deadline. True when all has been read. */
  update(scheduler: Scheduler, deadline: number): boolean {
    const { fold } = this;
    if (this.next === null && fold !== null) {
      const tooMany = fold.groupCount > MANY_GROUPS && fold.groupCount > 2 * this.groupsWhenMade;
      if (!fold.valid || tooMany) {
        this.reset(this.cell, fold.window);
      }
    }
    if (this.next !== null && !this.next.valid) {
      this.reset(this.cell, this.next.window);
    }
    const reading = this.next ?? fold;
    if (reading === null) {
      return true;
    }
    const done = reading.advance(scheduler, deadline);
    if (this.next !== null && (done || fold === null)) {
      this.fold = this.next;
      this.next = done ? null : this.next;
      this.groupsWhenMade = this.fold.groupCount;
    }
    this.measure();
    return done;
  }

  /** A segment is about to leave the store. */
  forget(segment: Segment): void {
    this.fold?.forget(segment);
    if (this.next !== this.fold) {
      this.next?.forget(segment);
    }
    this.measure();
  }

  item(index: number): Item {
    const [window, at] = this.at(index);
    if (window.skip !== null) {
      return { ...window.skip, loading: this.store.isLoading(window.skip) };
    }
    const group = window.groups[at];
    return group === undefined ? this.windowItem(window) : this.groupItem(group);
  }

  indexOf(id: string): number {
    const found = this.fold?.find(id);
    if (found !== undefined) {
      return this.indexIn(this.windows().indexOf(found.window), found.group);
    }
    for (const [number, window] of this.windows().entries()) {
      const group = window.groups.find(each => itemId(each) === id || each.id === id);
      if (window.id === id || group !== undefined) {
        return this.indexIn(number, group);
      }
    }
    return -1;
  }

  /** The group of lines that an item shows. */
  group(id: string): Group | undefined {
    return this.fold?.find(id)?.group;
  }

  nextError(index: number, direction: 1 | -1): number {
    for (let next = index + direction; next >= 0 && next < this.length; next += direction) {
      const [window, at] = this.at(next);
      const group = window.groups[at];
      if (group !== undefined ? group.level >= ERROR : (window.skip?.errors ?? 0) > 0) {
        return next;
      }
    }
    return -1;
  }

  /** Lines of a group that are held, oldest first. */
  lines(id: string, ranks: ReadonlySet<number> | null, most: number): LineItem[] {
    const lines: LineItem[] = [];
    const group = this.group(id);
    if (group !== undefined && most > 0) {
      this.walk(group, group.row, (segment, index) => {
        if (ranks === null || ranks.has(this.sources.at(segment.source[index] as number).rank)) {
          lines.push(this.items.line(segment, index));
        }
        return lines.length < most;
      });
    }
    return lines;
  }

  /** Visit a group's lines: see {@link Members.walk}. */
  walk(group: Group, from: number, visit: Visit, most?: number): number {
    return this.members.walk(group, this.perCell, from, visit, most);
  }

  /** The cell that a group's lines are of; null: of any. */
  cellOf(group: Group): number | null {
    return this.perCell ? group.cell : null;
  }

  private get perCell(): boolean {
    return this.cell !== null || (this.fold?.window ?? null) !== null;
  }

  private windows(): readonly GroupWindow[] {
    return this.fold?.windows ?? [];
  }

  /** The index of a group's item, or that of its window's head. */
  private indexIn(number: number, group: Group | undefined): number {
    const window = this.windows()[number];
    const start = this.starts[number];
    if (window === undefined || start === undefined) {
      return -1;
    }
    return group === undefined ? start : start + this.headSize(window) + window.groups.indexOf(group);
  }

  private headSize(window: GroupWindow): number {
    return window.skip !== null || this.fold?.window !== null ? 1 : 0;
  }

  private measure(): void {
    let start = 0;
    this.starts = this.windows().map(window => {
      const begin = start;
      start += this.headSize(window) + window.groups.length;
      return begin;
    });
    this.length = start;
  }

  /** The window of an item, and which of its groups it is; -1: its head. */
  private at(index: number): [GroupWindow, number] {
    if (index < 0 || index >= this.length) {
      throw new RangeError(`no item ${index} of ${this.length}`);
    }
    let low = 0;
    let high = this.starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.starts[middle] as number) <= index) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    const window = this.windows()[low] as GroupWindow;
    return [window, index - (this.starts[low] as number) - this.headSize(window)];
  }

  private windowItem({ id, cell, firstWall, lastWall, lines }: GroupWindow): Item {
    return { kind: 'window', id, cell, firstWall, lastWall, lines };
  }

  private groupItem(group: Group): Item {
    const ranks = [...group.ranks].sort((one, other) => one - other);
    if (group.block !== null) {
      return this.items.block(group.block, ranks, group.count);
    }
    const { target, job, cell, count, held, firstWall, lastWall, differs, template, textOnly } = group;
    const segment = group.redrawn ? this.store.segmentOf(group.row) : null;
    const now = segment?.redrawn.get(group.row - segment.first);
    const level = now === undefined || segment === null
      ? group.level
      : (segment.level[group.row - segment.first] as number);
    const shape = differs && !group.redrawn ? this.templates.shape(template) : null;
    const text = shape === null ? (now ?? group.text) : templateText(shape);
    return {
      kind: 'group', id: group.id,
      target, job, cell, level, count, held, firstWall, lastWall, differs, ranks, text, shape,
      others: template === OTHERS && !textOnly
    };
  }
}

/** The id of the item that shows a group. */
function itemId(group: Group): string {
  return group.block === null ? group.id : `b${group.block.head}`;
}

