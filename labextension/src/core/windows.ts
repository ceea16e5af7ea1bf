/**
 * Groups as they are listed: by aggregation windows where the mesh has them, else over everything. Made,
 * counted, joined as their templates become one, and found again.
 */
import type { SkipItem } from './api';
import { absorb, GroupKeys, idOf, readId } from './groups';
import type { Group, GroupWindow } from './groups';
import type { Sources } from './sources';
import type { Templates } from './templates';

/** What a new group is told of. */
export type About = Pick<
  Group,
  'row' | 'target' | 'job' | 'cell' | 'level' | 'text' | 'template' | 'block' | 'redrawn' | 'textOnly'
> & { wall: number };

export class Windows {
  /** In the order of the rows that opened them. */
  readonly list: GroupWindow[] = [];
  /** How many groups and skips there are. */
  groupCount = 0;
  readonly keys: GroupKeys;
  private readonly current = new Map<number, GroupWindow>();
  private readonly byId = new Map<string, GroupWindow>();
  private revision: number;

  /** `cell` is the only one (null: any), `seconds` how long a window lasts (null: for ever). */
  constructor(
    sources: Sources,
    private readonly templates: Templates,
    private readonly cell: number | null,
    private readonly seconds: number | null
  ) {
    this.keys = new GroupKeys(sources);
    this.revision = templates.revision;
  }

  /** The window of a line; a new one where the last is over. */
  windowOf(cell: number, wall: number, row: number): GroupWindow {
    const scope = this.cell === null && this.seconds === null ? -1 : cell;
    let window = this.current.get(scope);
    if (window === undefined || (this.seconds !== null && wall >= window.opened + this.seconds)) {
      window = newWindow(this.seconds === null ? `w${scope}` : `w${scope}.${row}`, cell, row, wall, wall, null);
      this.current.set(scope, window);
      this.byId.set(window.id, window);
      this.list.push(window);
    }
    return window;
  }

  addSkip(skip: SkipItem, row: number): void {
    this.list.push(newWindow(skip.id, -1, row, skip.wall[0], skip.wall[1], skip));
    this.groupCount += 1;
  }

  addGroup(window: GroupWindow, key: string | number, about: About): Group {
    const { wall, ...rest } = about;
    const group: Group = {
      ...rest,
      id: idOf(window, key, about),
      lastRow: about.row,
      differs: false,
      count: 0,
      held: 0,
      ranks: new Set(),
      lastRank: NaN,
      joins: 0,
      firstWall: wall, lastWall: wall
    };
    window.groups.push(group);
    if (typeof key === 'number') {
      window.byKey.set(key, group);
    } else {
      window.byName.set(key, group);
    }
    this.groupCount += 1;
    return group;
  }

  /** The newest window that a row of a cell may have been read into. */
  windowAt(row: number, cell: number): GroupWindow | undefined {
    for (let at = this.windowsUntil(row) - 1; at >= 0; at -= 1) {
      const window = this.list[at] as GroupWindow;
      if (window.skip === null && this.covers(window, cell)) {
        return window;
      }
    }
    return undefined;
  }

  /** The group of lines with an id that it has or had, and its window. */
  find(id: string): { window: GroupWindow; group: Group } | undefined {
    const about = readId(id);
    const window = about === null ? undefined : this.byId.get(about.window);
    if (about === null || window === undefined) {
      return undefined;
    }
    const template = this.templates.find(about.template);
    const group = window.byKey.get(this.keys.of({ ...about, template }));
    return group && { window, group };
  }

  /** A block has another name, since it has ended: it joins the one that has this name already. */
  rename(window: GroupWindow, group: Group, before: string, now: string): void {
    const same = window.byName.get(now);
    window.byName.delete(before);
    if (same === undefined) {
      window.byName.set(now, group);
      group.id = idOf(window, now, group);
    } else {
      absorb(same, group);
      window.groups.splice(window.groups.indexOf(group), 1);
      this.groupCount -= 1;
    }
  }

  /** Groups whose templates have become one, since they were made, are one. */
  join(): void {
    const { revision } = this.templates;
    if (this.revision !== revision) {
      this.revision = revision;
      for (const window of this.list) {
        this.joinIn(window);
      }
    }
  }

  private joinIn(window: GroupWindow): void {
    const moved = [...window.byKey].filter(([, { template }]) => this.templates.find(template) !== template);
    if (moved.length === 0) {
      return;
    }
    const places = new Map(window.groups.map((group, at) => [group, at]));
    const placeOf = (group: Group): number => places.get(group) as number;
    const absorbed = new Set<Group>();
    for (const [key, group] of moved) {
      window.byKey.delete(key);
      group.template = this.templates.find(group.template);
      const now = this.keys.of(group);
      const same = window.byKey.get(now);
      // The one that stands first in the list stays there.
      const stays = same !== undefined && placeOf(same) < placeOf(group) ? same : group;
      const goes = stays === group ? same : group;
      if (goes !== undefined) {
        absorb(stays, goes);
        absorbed.add(goes);
      }
      window.byKey.set(now, stays);
      stays.id = idOf(window, now, stays);
    }
    if (absorbed.size > 0) {
      window.groups = window.groups.filter(group => !absorbed.has(group));
      this.groupCount -= absorbed.size;
    }
  }

  /** How many windows begin at a row or before it. */
  private windowsUntil(row: number): number {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.list[middle] as GroupWindow).row <= row) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  private covers(window: GroupWindow, cell: number): boolean {
    return window.cell === cell || (this.cell === null && this.seconds === null);
  }
}

/** Count lines that a group of a window stands for, and between which times they were said. */
export function count(window: GroupWindow, group: Group, lines: number, first: number, last: number): void {
  group.count += lines;
  group.firstWall = Math.min(group.firstWall, first);
  group.lastWall = Math.max(group.lastWall, last);
  window.lines += lines;
  window.firstWall = Math.min(window.firstWall, first);
  window.lastWall = Math.max(window.lastWall, last);
}

function newWindow(
  id: string,
  cell: number,
  row: number,
  firstWall: number,
  lastWall: number,
  skip: SkipItem | null
): GroupWindow {
  return {
    id, cell, row, firstWall, lastWall, skip,
    opened: firstWall,
    lines: 0,
    groups: [],
    byKey: new Map(),
    byName: new Map()
  };
}
