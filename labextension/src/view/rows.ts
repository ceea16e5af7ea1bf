/**
 * One item of a query as an element. Rows know nothing of the list: what a click means goes out through
 * {@link RowActions}.
 */
import type { BlockItem, GroupValues, Item, LineItem, LiveItem, SkipItem } from '../core/api';
import { levelSlot } from '../core/levels';
import { foldRanks, nameRanks, parseRanks } from '../core/ranks';
import { appendText } from './ansi';
import { element } from './dom';
import { clock, count, lines } from './format';
import { groupRow } from './grouprow';
import {
  disclosure,
  LONGEST_LINE,
  type RowActions,
  type RowLook,
  shell,
  textButton,
  times,
  UNFOLD_LINES,
  who
} from './rowparts';
import { toText } from './sanitize';
import { appendTemplate } from './template';

export type { RowActions, RowLook, TimeMode, Unfolded } from './rowparts';

/** How much of a long line is shown. */
const BEGINNING = 1000;
/** How many lines of a skip come at once. */
const FETCH_LINES = 5000;

/** Changes when the item's row must be built again: a line may be redrawn in place, and its source may
 * be learnt (until then its rank is -1) when the line is there already. */
export function stamp(item: Item, values: GroupValues | null = null): string {
  switch (item.kind) {
    case 'line':
      return `${item.source.rank} ${item.level} ${item.note} ${item.text}`;
    case 'block':
      return `${item.count} ${ranksStamp(item.ranks)} ${item.lines.length} ${item.open} ${item.title}`;
    case 'skip':
      return `${item.first} ${item.end} ${item.lines} ${item.errors} ${item.others} ${item.loading} ${item.known} ${saidStamp(item)}`;
    case 'group':
      return `${item.count} ${ranksStamp(item.ranks)} ${item.level} ${item.held} ${item.lastWall} ${item.differs} ${values?.version ?? ''} ${item.text}`;
    case 'window':
      return `${item.lines} ${item.lastWall}`;
    case 'live':
      return `${item.source.rank} ${item.wall} ${item.text}`;
  }
}

/** Of what an opened skip says: a late template changes the text of its groups, and nothing else. */
function saidStamp({ groups }: SkipItem): string {
  return groups
    .slice(0, UNFOLD_LINES)
    .map(({ count, ranks, level, text }) => `${count} ${ranks} ${level} ${text}`)
    .join('\n');
}

/** Of ascending ranks to which others come, and of which -1 may go. */
function ranksStamp(ranks: readonly number[]): string {
  return `${ranks.length} ${ranks[0] ?? ''}`;
}

/** The row of an item; `values`: what is known of those of a group. */
export function buildRow(
  item: Item,
  look: RowLook,
  actions: RowActions,
  values: GroupValues | null = null
): HTMLElement {
  switch (item.kind) {
    case 'line':
    case 'live':
      return lineRow(item, look, actions);
    case 'block':
      return blockRow(item, look, actions);
    case 'group':
      return groupRow(item, values, look, actions);
    case 'skip':
      return skipRow(item, look, actions);
    case 'window':
      return windowRow(item.firstWall, item.lastWall, item.lines);
  }
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
  const ranks = nameRanks(item.ranks, look.ranks);
  const [row, body] = shell(
    item,
    item.wall,
    who(ranks, item.job, item.target),
    `${item.count === 1 ? 'said once' : `said ${count(item.count)} times`}, by rank ${ranks}`,
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
      if (group.shape === null) {
        appendText(text, group.text.slice(0, LONGEST_LINE), look);
      } else {
        appendTemplate(text, group.shape, null, false, look);
      }
      const ranks = nameRanks(parseRanks(group.ranks) ?? [], look.ranks);
      inner.append(
        element(
          'div',
          { class: `lm-sub lm-level-${levelSlot(group.level)}` },
          element('span', { class: 'lm-who' }, who(ranks, group.job, group.target)),
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
