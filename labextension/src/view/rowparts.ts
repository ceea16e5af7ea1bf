/** What the rows of all kinds of items are made of, and what they need to know and to ask for. */
import type { GroupItem, GroupValues, LineItem, Said, SkipItem } from '../core/api';
import { levelSlot } from '../core/levels';
import { element } from './dom';
import { clock, count, LEVEL_LETTERS, LEVEL_NAMES, since } from './format';
import { toText } from './sanitize';

export type TimeMode = 'absolute' | 'relative' | 'off';

/** What is unfolded of an item. */
export interface Unfolded {
  /** Of these ranks; null: of all. */
  ranks: ReadonlySet<number> | null;
  /** At most so many lines. */
  most: number;
}

/** How rows look now. */
export interface RowLook {
  time: TimeMode;
  /** Wall seconds that relative times count from. */
  base: number;
  /** Whether the cell is told with each line (in views over many). */
  cells: boolean;
  marked: RegExp | null;
  openFile: ((path: string, line: number) => void) | null;
  unfolded: ReadonlyMap<string, Unfolded>;
  /** Ids of lines that show all of their text. */
  whole: ReadonlySet<string>;
  /** All ranks of the mesh, as far as known. */
  ranks: ReadonlySet<number>;
}

export interface RowActions {
  unfold(id: string, how: Unfolded | null): void;
  /** Show all of a long line. */
  showWhole(item: LineItem | null, id: string): void;
  /** Bring lines of a skip. */
  fetch(item: SkipItem, most: number): void;
  groupLines(item: GroupItem, how: Unfolded): readonly LineItem[];
  /** What the slots of a group hold, as far as known; kept up to date until `dropValues`. */
  values(item: GroupItem): GroupValues | null;
  dropValues(id: string): void;
  /** Show only lines of these ranks, or with this text. */
  showRanks(ranks: ReadonlySet<number>): void;
  showText(text: string): void;
}

/** A line with more characters shows only its beginning. */
export const LONGEST_LINE = 4000;
/** How many lines a group unfolds to at first. */
export const UNFOLD_LINES = 200;

/** A row's columns but for its text: the row, and the element that the text goes into. */
export function shell(
  item: Said & { kind: string },
  wall: number,
  who: string,
  whoTitle: string,
  look: RowLook
): [HTMLElement, HTMLElement] {
  const named = levelSlot(item.level);
  const body = element('div', { class: 'lm-body' });
  const row = element(
    'div',
    { class: `lm-row lm-${item.kind} lm-level-${named}` },
    element(
      'span',
      { class: 'lm-letter', title: named ? (LEVEL_NAMES[named] ?? '') : null },
      LEVEL_LETTERS[named] ?? '',
      named > 2 ? element('span', { class: 'lm-hidden' }, ` ${LEVEL_NAMES[named] ?? ''} `) : null
    )
  );
  if (look.time !== 'off') {
    const time = !wall ? '' : look.time === 'absolute' ? clock(wall) : since(wall, look.base);
    row.append(element('span', { class: 'lm-time', title: wall ? new Date(wall * 1000).toISOString() : null }, time));
  }
  if (look.cells) {
    const cell = item.cell >= 0 ? String(item.cell) : '';
    row.append(element('span', { class: 'lm-cell', title: cell ? `cell ${cell}` : null }, cell));
  }
  row.append(element('span', { class: 'lm-who', title: whoTitle }, who), body);
  return [row, body];
}

/** Who says it: `[0-3 job 1 err]`. */
export function who(ranks: string, job: string, target: number): string {
  return `[${ranks}${job ? ` ${toText(job)}` : ''}${target === 2 ? ' err' : ''}]`;
}

export function times(value: number): HTMLElement {
  return element('span', { class: 'lm-times' }, `${count(value)}×`);
}

export function textButton(text: string, click: () => void): HTMLButtonElement {
  const node = element('button', { type: 'button', class: 'lm-link', tabindex: -1 }, text);
  node.addEventListener('click', click);
  return node;
}

export function disclosure(open: boolean, what: string, click: () => void): HTMLButtonElement {
  const node = element(
    'button',
    { type: 'button', class: 'lm-fold', 'aria-expanded': String(open), 'aria-label': `Unfold ${what}`, tabindex: -1 },
    open ? '▾' : '▸'
  );
  node.addEventListener('click', click);
  return node;
}
