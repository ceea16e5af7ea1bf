/**
 * What the slots of an opened group hold, as tables: numbers with their extremes and who said these,
 * other texts with their most frequent values.
 */
import type { GroupItem, GroupValues, NumberValues, TextValues } from '../core/api';
import { withoutSgr } from '../core/carriage';
import { SlotKind } from '../core/protocol';
import { nameRanks, parseRanks } from '../core/ranks';
import { slotNames } from '../core/slots';
import type { Shape } from '../core/templates';
import { appendText } from './ansi';
import { element } from './dom';
import { count, lines, quantity } from './format';
import { type RowActions, type RowLook, textButton } from './rowparts';
import { toText } from './sanitize';
import { slotSign } from './template';

const LONGEST_VALUE = 120;
/** What is told of a value beyond these characters is that there is more. */
const TOLD_CHARS = 1000;
/** What is left of an escape sequence or a character where a value was cut within it. */
const BROKEN_END = /(?:\x1b(?:\[[0-9;:]*)?|[\ud800-\udbff\ufffd])$/;

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
      element('td', {}, valueButton(value, look, actions)),
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
  return element('th', { scope: 'row', rowspan: rows > 1 ? rows : null }, slotSign(kind), toText(name));
}

/** What lines with the value have in their text, which is searched without colours. */
function searched(value: string): string {
  return withoutSgr(beginning(value, TOLD_CHARS));
}

/** The first characters, without a broken one or a broken escape sequence at their end. */
function beginning(value: string, length: number): string {
  return value.slice(0, length).replace(BROKEN_END, '');
}

function valueButton(value: string, look: RowLook, actions: RowActions): HTMLElement {
  const text = searched(value);
  if (text === '') {
    return element('span', { class: 'lm-note' }, 'nothing');
  }
  const node = textButton('', () => actions.showText(text));
  appendText(node, beginning(value, LONGEST_VALUE), { marked: look.marked, openFile: null });
  node.title = `show only lines with ${toText(text).slice(0, 400)}`;
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
