/**
 * Items whose text matches, in the list's order, found in slices. Goes on as the list changes; what it
 * has seen of an unchanged segment it does not look at again.
 */
import type { Found, Item } from './api';
import { Matcher } from './matcher';
import type { TextSearch } from './matcher';
import { has } from './matches';
import { PlainList } from './plain';
import type { ItemList } from './plain';
import { RowMark } from './segment';
import type { Segment } from './segment';

/** What has been found among the items of a segment. */
interface Seen {
  version: number;
  count: number;
  /** Matching lines, by index. */
  matching: Uint32Array;
  /** The ids of those that are items, for these rows of items. */
  rows: Uint32Array | null;
  ids: string[];
}

export class Find {
  readonly problem: string;
  private readonly matcher: Matcher | null;
  private seen = new Map<Segment, Seen>();
  private mask = new Uint8Array(0);

  constructor(search: TextSearch) {
    const matcher = Matcher.of(search);
    this.problem = typeof matcher === 'string' ? matcher : '';
    this.matcher = typeof matcher === 'string' ? null : matcher;
  }

  /** Look at what has not been looked at until `late()`, but at something; what has been found. */
  run(list: ItemList, late: () => boolean): Found {
    if (this.matcher === null) {
      return { ids: [], done: true, problem: this.problem };
    }
    if (list instanceof PlainList) {
      return this.inPlain(list, this.matcher, late);
    }
    const ids: string[] = [];
    findItems(list, 0, list.length, this.matcher, ids);
    return { ids, done: true, problem: '' };
  }

  private inPlain(list: PlainList, matcher: Matcher, late: () => boolean): Found {
    const seen = new Map<Segment, Seen>();
    const ids: string[] = [];
    let done = true;
    let next = 0;
    for (const { segment, rows, start } of list.segments()) {
      findItems(list, next, start, matcher, ids);
      next = start + rows.length;
      let known = this.seen.get(segment);
      if (known?.version !== segment.version || known.count < segment.count) {
        if (!done) {
          continue;
        }
        known = this.look(segment, matcher);
        done = !late();
      }
      seen.set(segment, known);
      if (known.rows !== rows) {
        known.rows = rows;
        known.ids = idsOf(list, segment, rows, start, known.matching, matcher);
      }
      for (const id of known.ids) {
        ids.push(id);
      }
    }
    findItems(list, next, list.length, matcher, ids);
    this.seen = seen;
    return { ids, done, problem: '' };
  }

  private look(segment: Segment, matcher: Matcher): Seen {
    const { version, count } = segment;
    if (this.mask.length < count) {
      this.mask = new Uint8Array(count);
    }
    matcher.testAll(segment, 0, this.mask);
    const matching: number[] = [];
    for (let index = this.mask.indexOf(1); index >= 0 && index < count; ) {
      matching.push(index);
      index = this.mask.indexOf(1, index + 1);
    }
    return { version, count, matching: Uint32Array.from(matching), rows: null, ids: [] };
  }
}

/** The ids of a segment's items that match. */
function idsOf(
  list: PlainList,
  segment: Segment,
  rows: Uint32Array,
  start: number,
  matching: Uint32Array,
  matcher: Matcher
): string[] {
  const found = matching.filter(
    index => !((segment.marks[index] as number) & RowMark.head) && has(rows, index)
  );
  const heads = rows.filter(
    (index, at) =>
      ((segment.marks[index] as number) & RowMark.head) !== 0 &&
      matches(list.item(start + at), matcher)
  );
  const ids = Array.from(found, index => ({ index, id: `r${segment.first + index}` }));
  for (const index of heads) {
    ids.push({ index, id: `b${segment.first + index}` });
  }
  if (heads.length > 0) {
    ids.sort((one, other) => one.index - other.index);
  }
  return ids.map(({ id }) => id);
}

/** Add the ids of the items from `from` to `to` that match. */
function findItems(list: ItemList, from: number, to: number, matcher: Matcher, ids: string[]): void {
  for (let index = from; index < to; index += 1) {
    const item = list.item(index);
    if (matches(item, matcher)) {
      ids.push(item.id);
    }
  }
}

function matches(item: Item, matcher: Matcher): boolean {
  switch (item.kind) {
    case 'block':
      return item.lines.some(line => matcher.test(line));
    case 'skip':
      return item.groups.some(group => matcher.test(group.text));
    case 'window':
      return false;
    default:
      return matcher.test(item.text);
  }
}
