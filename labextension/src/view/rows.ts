/**
 * One item of a query as an element. Rows know nothing of the list: what a click means goes out through
 * {@link RowActions}.
 */
import type { BlockItem, GroupItem, Item, LineItem, LiveItem, Said, SkipItem } from '../core/api';
import { levelSlot } from '../core/levels';
import { foldRanks } from '../core/ranks';
import { appendText } from './ansi';
import { element } from './dom';
import { clock, count, LEVEL_LETTERS, LEVEL_NAMES, lines, since } from './format';
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
}

export interface RowActions {
  unfold(id: string, how: Unfolded | null): void;
  /** Show all of a long line. */
  showWhole(item: LineItem | null, id: string): void;
  /** Bring lines of a skip. */
  fetch(item: SkipItem, most: number): void;
  groupLines(item: GroupItem, how: Unfolded): readonly LineItem[];
}

/** A line with more characters shows only its beginning. */
const LONGEST_LINE = 4000;
const BEGINNING = 1000;
/** How many lines a group unfolds to at first. */
const UNFOLD_LINES = 200;
/** A row with more would be slow. */
const MOST_UNFOLDED = 5000;
/** How many lines of a skip come at once. */
const FETCH_LINES = 5000;
const MOST_RANK_CHIPS = 128;

/** Changes when the item's row must be built again: a line may be redrawn in place, and its source may
 * be learnt (until then its rank is -1) when the line is there already. */
export function stamp(item: Item): string {
  switch (item.kind) {
    case 'line':
      return `${item.source.rank} ${item.level} ${item.note} ${item.text}`;
    case 'block':
      return `${item.count} ${ranksStamp(item.ranks)} ${item.lines.length} ${item.open} ${item.title}`;
    case 'skip':
      return `${item.first} ${item.end} ${item.lines} ${item.errors} ${item.others} ${item.loading} ${item.known} ${item.groups.length}`;
    case 'group':
      return `${item.count} ${ranksStamp(item.ranks)} ${item.level} ${item.held} ${item.lastWall} ${item.text}`;
    case 'window':
      return `${item.lines} ${item.lastWall}`;
    case 'live':
      return `${item.source.rank} ${item.wall} ${item.text}`;
  }
}

/** Of ascending ranks to which others come, and of which -1 may go. */
function ranksStamp(ranks: readonly number[]): string {
  return `${ranks.length} ${ranks[0] ?? ''}`;
}

/** The row of an item. Its `id` attribute is the list's business. */
export function buildRow(item: Item, look: RowLook, actions: RowActions): HTMLElement {
  switch (item.kind) {
    case 'line':
    case 'live':
      return lineRow(item, look, actions);
    case 'block':
      return blockRow(item, look, actions);
    case 'group':
      return groupRow(item, look, actions);
    case 'skip':
      return skipRow(item, look, actions);
    case 'window':
      return windowRow(item.firstWall, item.lastWall, item.lines);
  }
}

/** A row's columns but for its text: the row, and the element that the text goes into. */
function shell(item: Said & { kind: string }, wall: number, who: string, whoTitle: string, look: RowLook): [HTMLElement, HTMLElement] {
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

function who(ranks: string, job: string, target: number): string {
  return `[${ranks}${job ? ` ${toText(job)}` : ''}${target === 2 ? ' err' : ''}]`;
}

function lineRow(item: LineItem | LiveItem, look: RowLook, actions: RowActions): HTMLElement {
  const source = item.source;
  const [row, body] = shell(
    item,
    item.wall,
    who(String(source.rank), item.job, item.target),
    `rank ${source.rank}, host ${toText(source.host)}, pid ${source.pid}, ${item.target === 2 ? 'stderr' : 'stdout'}`,
    look
  );
  const line = item.kind === 'line' ? item : null;
  if (line?.continued) {
    body.append(element('span', { class: 'lm-note', title: 'goes on from an unfinished line' }, '… '));
  }
  const all = look.whole.has(item.id);
  const cut = item.text.length > LONGEST_LINE && !all;
  appendText(body, cut ? item.text.slice(0, BEGINNING) : item.text, look);
  if (cut || (line?.shortened && !all)) {
    body.append(
      textButton(
        line?.shortened ? 'show all of it' : `show all (${count(item.text.length)} characters)`,
        () => actions.showWhole(line, item.id)
      )
    );
  }
  if (line?.note) {
    body.append(element('span', { class: 'lm-note' }, ` ${line.note}`));
  }
  return row;
}

function blockRow(item: BlockItem, look: RowLook, actions: RowActions): HTMLElement {
  const open = look.unfolded.has(item.id);
  const [row, body] = shell(
    item,
    item.wall,
    who(foldRanks(item.ranks), item.job, item.target),
    `${item.count === 1 ? 'said once' : `said ${count(item.count)} times`}, by rank ${foldRanks(item.ranks)}`,
    look
  );
  const title = element('span', { class: 'lm-title' });
  appendText(title, item.title.slice(0, LONGEST_LINE), look);
  if (item.count > 1) {
    body.append(times(item.count));
  }
  body.append(
    disclosure(open, `${lines(item.lines.length)} of ${toText(item.title).slice(0, 200)}`, () =>
      actions.unfold(item.id, open ? null : { ranks: null, most: UNFOLD_LINES })
    ),
    title,
    element('span', { class: 'lm-note' }, item.open ? ' goes on …' : ` ${lines(item.lines.length)}`)
  );
  if (open) {
    const inner = element('div', { class: 'lm-inner' });
    for (const text of item.lines) {
      const line = element('div', { class: 'lm-sub' });
      appendText(line, text.slice(0, LONGEST_LINE), look);
      inner.append(line);
    }
    body.append(inner);
  }
  return row;
}

function groupRow(item: GroupItem, look: RowLook, actions: RowActions): HTMLElement {
  const how = look.unfolded.get(item.id);
  const folded = foldRanks(item.ranks);
  const [row, body] = shell(
    item,
    item.lastWall,
    who(folded, item.job, item.target),
    `${lines(item.count)} by rank ${folded}, ${clock(item.firstWall)} to ${clock(item.lastWall)}`,
    look
  );
  if (item.count > 1) {
    body.append(times(item.count));
    body.append(
      disclosure(how !== undefined, `${lines(item.count)} like ${toText(item.text).slice(0, 200)}`, () =>
        actions.unfold(item.id, how ? null : { ranks: null, most: UNFOLD_LINES })
      )
    );
  }
  const text = element('span', { class: 'lm-text' });
  appendText(text, item.text.slice(0, LONGEST_LINE), look);
  body.append(text);
  if (how) {
    body.append(groupLines(item, how, look, actions));
  }
  return row;
}

function groupLines(item: GroupItem, how: Unfolded, look: RowLook, actions: RowActions): HTMLElement {
  const inner = element('div', { class: 'lm-inner' });
  if (item.ranks.length > 1) {
    const chips = element('div', { class: 'lm-chips', role: 'group', 'aria-label': 'Lines of' });
    const chip = (text: string, label: string, ranks: ReadonlySet<number> | null, on: boolean): void => {
      const node = textButton(text, () => actions.unfold(item.id, { ranks, most: UNFOLD_LINES }));
      node.classList.add('lm-chip');
      node.setAttribute('aria-label', label);
      node.setAttribute('aria-pressed', String(on));
      chips.append(node);
    };
    chip('all', 'all ranks', null, how.ranks === null);
    for (const rank of item.ranks.slice(0, MOST_RANK_CHIPS)) {
      chip(String(rank), `rank ${rank}`, new Set([rank]), how.ranks?.has(rank) === true);
    }
    if (item.ranks.length > MOST_RANK_CHIPS) {
      chips.append(element('span', { class: 'lm-note' }, `and ${count(item.ranks.length - MOST_RANK_CHIPS)} more ranks`));
    }
    inner.append(chips);
  }
  const held = actions.groupLines(item, how);
  for (const line of held) {
    const text = element('span', {});
    appendText(text, line.text.slice(0, LONGEST_LINE), look);
    inner.append(
      element(
        'div',
        { class: 'lm-sub', title: `${clock(line.wall)}, host ${toText(line.source.host)}, pid ${line.source.pid}` },
        element('span', { class: 'lm-who' }, who(String(line.source.rank), line.job, line.target)),
        text
      )
    );
  }
  if (held.length >= how.most && how.most >= MOST_UNFOLDED) {
    inner.append(element('div', { class: 'lm-note' }, `${lines(held.length)} of ${count(item.held)}: ungrouped they are all in the list`));
  } else if (held.length >= how.most) {
    inner.append(
      textButton(`show more than ${lines(how.most)}`, () =>
        actions.unfold(item.id, { ranks: how.ranks, most: 5 * how.most })
      )
    );
  }
  if (item.held < item.count) {
    inner.append(
      element('div', { class: 'lm-note' }, `${lines(item.count - item.held)} of this group not shown here, all in the store`)
    );
  }
  return inner;
}

function skipRow(item: SkipItem, look: RowLook, actions: RowActions): HTMLElement {
  const open = look.unfolded.has(item.id);
  const row = element('div', { class: `lm-row lm-skip${item.errors ? ' lm-has-errors' : ''}` });
  const body = element('div', { class: 'lm-body' });
  row.append(element('span', { class: 'lm-letter', 'aria-hidden': 'true' }, '⋯'), body);
  if (item.groups.length) {
    body.append(
      disclosure(open, 'what these lines say, in short', () =>
        actions.unfold(item.id, open ? null : { ranks: null, most: UNFOLD_LINES })
      )
    );
  }
  body.append(element('span', {}, `${lines(item.lines)} not shown here, all in the store`));
  if (item.errors) {
    body.append(element('span', { class: 'lm-errors' }, ` ${count(item.errors)} with errors`));
  }
  if (item.wall[1] > 0) {
    body.append(element('span', { class: 'lm-note' }, ` ${clock(item.wall[0], false)} to ${clock(item.wall[1], false)}`));
  }
  if (item.loading) {
    body.append(element('span', { class: 'lm-note' }, ' loading …'));
  } else {
    const rows = item.end - item.first;
    const page = rows > FETCH_LINES ? `show the last ${count(FETCH_LINES)}` : 'show';
    body.append(textButton(page, () => actions.fetch(item, FETCH_LINES)));
    if (rows > FETCH_LINES) {
      body.append(textButton('the first', () => actions.fetch(item, -FETCH_LINES)));
    }
  }
  if (open) {
    const inner = element('div', { class: 'lm-inner' });
    for (const group of item.groups.slice(0, UNFOLD_LINES)) {
      const text = element('span', {});
      appendText(text, group.text.slice(0, LONGEST_LINE), look);
      inner.append(
        element(
          'div',
          { class: `lm-sub lm-level-${levelSlot(group.level)}` },
          element('span', { class: 'lm-who' }, who(group.ranks, group.job, group.target)),
          times(group.count),
          text
        )
      );
    }
    if (item.others) {
      inner.append(element('div', { class: 'lm-note' }, `and ${lines(item.others)} that no group counts`));
    }
    body.append(inner);
  }
  return row;
}

function windowRow(first: number, last: number, held: number): HTMLElement {
  return element(
    'div',
    { class: 'lm-row lm-window' },
    element('span', {}, 'Aggregated Logs'),
    element('span', { class: 'lm-note' }, `${clock(first, false)} to ${clock(last, false)}, ${lines(held)}`)
  );
}

function times(value: number): HTMLElement {
  return element('span', { class: 'lm-times' }, `${count(value)}×`);
}

function textButton(text: string, click: () => void): HTMLButtonElement {
  const node = element('button', { type: 'button', class: 'lm-link', tabindex: -1 }, text);
  node.addEventListener('click', click);
  return node;
}

function disclosure(open: boolean, what: string, click: () => void): HTMLButtonElement {
  const node = element(
    'button',
    { type: 'button', class: 'lm-fold', 'aria-expanded': String(open), 'aria-label': `Unfold ${what}`, tabindex: -1 },
    open ? '▾' : '▸'
  );
  node.addEventListener('click', click);
  return node;
}

/** An item as plain text, for the clipboard and for labels: what it stands for, one line each. */
export function itemText(item: Item): string {
  switch (item.kind) {
    case 'line':
    case 'live':
      return `${who(String(item.source.rank), item.job, item.target)} ${toText(item.text)}`;
    case 'block': {
      const prefix = who(foldRanks(item.ranks), item.job, item.target);
      return item.lines.map(text => `${prefix} ${toText(text)}`).join('\n');
    }
    case 'group':
      return `${who(foldRanks(item.ranks), item.job, item.target)} ${count(item.count)}× ${toText(item.text)}`;
    case 'skip':
      return `(${lines(item.lines)} not shown here, all in the store)`;
    case 'window':
      return `Aggregated Logs (${clock(item.firstWall, false)} to ${clock(item.lastWall, false)}, ${lines(item.lines)})`;
  }
}
