/**
 * What the slots of an opened group hold, as tables: numbers with their extremes and who said these,
 * other texts with their most frequent values.
 */
import type { GroupItem, GroupValues, NumberValues, TextValues } from '../core/api';
import { SlotKind } from '../core/protocol';
import { nameRanks, parseRanks } from '../core/ranks';
import { slotNames } from '../core/slots';
import type { Shape } from '../core/templates';
import { element } from './dom';
import { count, lines, quantity } from './format';
import { type RowActions, type RowLook, textButton } from './rowparts';
import { toText } from './sanitize';
import { slotSign } from './template';

const LONGEST_VALUE = 120;

/** Of a group with a template; `values` null: they are being computed. */
export function slotTables(
  item: GroupItem,
  shape: Shape,
  values: GroupValues | null,
  look: RowLook,
  actions: RowActions
): HTMLElement {
  const names = slotNames(shape);
  const numbers: HTMLElement[] = [];
  const texts: HTMLElement[] = [];
  for (const [slot, found] of (values?.slots ?? []).entries()) {
    const name = names[slot] ?? '';
    if (found?.kind === SlotKind.number) {
      numbers.push(numberRow(name, found, actions));
    } else if (found?.kind === SlotKind.text) {
      texts.push(...textRows(name, found, look, actions));
    }
  }
  const note = basis(item, values);
  return element(
    'div',
    { class: 'lm-values' },
    note === '' ? null : element('div', { class: 'lm-note' }, note),
    numbers.length > 0 ? table('Numbers', numbers, ['number', '>min', 'rank', '>median', '>max', 'rank']) : null,
    texts.length > 0 ? table('Texts', texts, ['text', 'value', '>lines', 'ranks']) : null
  );
}

/** Over which lines the values are; "" where they are those of all lines, and the page has these. */
function basis({ count: all }: GroupItem, values: GroupValues | null): string {
  if (values === null) {
    return 'looking at the values …';
  }
  if (values.slots.every(slot => slot === null)) {
    return 'the values are not known';
  }
  if (values.stored) {
    return `values of ${values.whole ? 'all ' : ''}${lines(values.lines)} in the store`;
  }
  return values.lines >= all ? '' : `values of ${count(values.lines)} of ${lines(all)}`;
}

/** Columns of figures have a `>` before their names. */
function table(label: string, rows: HTMLElement[], columns: readonly string[]): HTMLElement {
  const heads = columns.map(name =>
    name.startsWith('>')
      ? element('th', { scope: 'col', class: 'lm-figure' }, name.slice(1))
      : element('th', { scope: 'col' }, name)
  );
  return element(
    'table',
    { class: 'lm-slots', 'aria-label': label },
    element('thead', {}, element('tr', {}, ...heads)),
    element('tbody', {}, ...rows)
  );
}

function numberRow(name: string, values: NumberValues, actions: RowActions): HTMLElement {
  const number = (value: number): HTMLElement =>
    element('td', { class: 'lm-figure', title: String(value) }, quantity(value));
  return element(
    'tr',
    {},
    head(SlotKind.number, name, 1),
    number(values.min),
    rankCell(values.minRank, actions),
    number(values.median),
    number(values.max),
    rankCell(values.maxRank, actions)
  );
}

function textRows(name: string, values: TextValues, look: RowLook, actions: RowActions): HTMLElement[] {
  const rest = values.distinct - values.top.length;
  const rows = values.top.map(({ value, count: times, ranks }) =>
    element(
      'tr',
      {},
      element('td', {}, valueButton(value, actions)),
      element('td', { class: 'lm-figure' }, count(times)),
      element('td', {}, ranksButton(ranks, look, actions))
    )
  );
  if (rest > 0) {
    const more = `and ${count(rest)}${values.more ? '+' : ''} more`;
    rows.push(element('tr', {}, element('td', { colspan: 3, class: 'lm-note' }, more)));
  }
  rows[0]?.prepend(head(SlotKind.text, name, rows.length));
  return rows;
}

function head(kind: string, name: string, rows: number): HTMLElement {
  const scope = rows > 1 ? 'rowgroup' : 'row';
  return element('th', { scope, rowspan: rows > 1 ? rows : null }, slotSign(kind), toText(name));
}

function valueButton(value: string, actions: RowActions): HTMLElement {
  if (value === '') {
    return element('span', { class: 'lm-note' }, 'nothing');
  }
  const text = toText(value);
  const node = textButton(text.slice(0, LONGEST_VALUE), () => actions.showText(value));
  node.title = `show only lines with ${text.slice(0, 400)}`;
  return node;
}

function rankCell(rank: number, actions: RowActions): HTMLElement {
  return element('td', {}, rank < 0 ? null : chooseRanks(String(rank), [rank], actions));
}

function ranksButton(folded: string, look: RowLook, actions: RowActions): HTMLElement | null {
  const ranks = parseRanks(folded) ?? [];
  return ranks.length === 0 ? null : chooseRanks(nameRanks(ranks, look.ranks), ranks, actions);
}

function chooseRanks(name: string, ranks: readonly number[], actions: RowActions): HTMLElement {
  const node = textButton(`[${name}]`, () => actions.showRanks(new Set(ranks)));
  node.title = `show only lines of rank ${name}`;
  return node;
}
