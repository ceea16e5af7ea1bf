// @vitest-environment jsdom
import { beforeEach, expect, it, vi } from 'vitest';
import type { GroupItem, GroupValues, SkipItem, SlotValues } from '../../src/core/api';
import type { Shape } from '../../src/core/templates';
import { buildRow, itemText, type RowActions, type RowLook, stamp } from '../../src/view/rows';
import { line } from './fakes';

const EVIL = '<img src=x onerror=alert(1)>\u202e';

const actions = {
  unfold: vi.fn<RowActions['unfold']>(),
  showWhole: vi.fn<RowActions['showWhole']>(),
  fetch: vi.fn<RowActions['fetch']>(),
  groupLines: () => [line(7, 'request GET took 5 ms')],
  values: () => null,
  dropValues: vi.fn<RowActions['dropValues']>(),
  showRanks: vi.fn<RowActions['showRanks']>(),
  showText: vi.fn<RowActions['showText']>()
};

beforeEach(() => {
  vi.clearAllMocks();
});

const REQUEST: Shape = { pieces: ['request ', ' took ', ' ms'], kinds: '*#' };
const TIMES: SlotValues = { kind: '#', count: 2000, min: 0.25, minRank: 3, median: 12.5, max: 65536, maxRank: 0 };
const VERBS: SlotValues = {
  kind: '*', distinct: 7, more: false,
  top: [
    { value: 'GET', count: 1500, ranks: '0-2,4-9,11-15' }, { value: 'PUT', count: 400, ranks: '3' },
    { value: '', count: 90, ranks: '1' }, { value: EVIL, count: 6, ranks: '1' }, { value: 'x'.repeat(300), count: 4, ranks: '' }
  ]
};

function group(change: Partial<GroupItem> = {}): GroupItem {
  return {
    kind: 'group', id: 'g', text: 'request <*> took <#> ms', shape: REQUEST, differs: true, others: false, count: 2000,
    ranks: [0, 1, 2, 3], firstWall: 1, lastWall: 2, held: 2000, target: 1, job: '', level: 20, cell: 1, ...change
  };
}

function values(change: Partial<GroupValues> = {}): GroupValues {
  return { slots: [VERBS, TIMES], lines: 2000, stored: false, whole: true, version: 1, ...change };
}

function row(item: GroupItem | SkipItem, known: GroupValues | null, open: boolean, change: Partial<RowLook> = {}): HTMLElement {
  const unfolded = new Map(open ? [[item.id, { ranks: null, most: 200 }]] : []);
  const look: RowLook = {
    time: 'off', base: 0, cells: false, marked: null, openFile: null, unfolded, whole: new Set(), ranks: new Set(), ...change
  };
  return buildRow(item, look, actions, known);
}

function chips(node: HTMLElement): HTMLElement[] {
  return [...node.querySelectorAll<HTMLElement>('.lm-text .lm-slot')];
}

function cells(node: HTMLElement, table: string): string[][] {
  return [...node.querySelectorAll(`table[aria-label="${table}"] tr`)].map(each =>
    [...each.children].map(cell => cell.textContent)
  );
}

it('a template shows its slots as chips, told apart by more than colour', () => {
  const [verb, ms] = chips(row(group(), null, false));
  expect([verb?.dataset['shown'], ms?.dataset['shown']]).toEqual(['*', '#']);
  expect([verb?.getAttribute('aria-label'), ms?.getAttribute('aria-label')]).toEqual(['text', 'number']);
  expect([verb?.className, ms?.className]).toEqual(['lm-slot lm-slot-text', 'lm-slot lm-slot-number']);
});

it('its text is readable where it is selected, copied or searched', () => {
  expect(row(group(), values(), false).querySelector('.lm-text')?.textContent).toBe('request <*> took <#> ms');
  expect(itemText(group())).toBe('[0-3] 2,000× request <*> took <#> ms');
});

it('chips show the range of numbers, and the value or how many there are', () => {
  const shown = (...slots: (SlotValues | null)[]): (string | undefined)[] =>
    chips(row(group(), values({ slots }), false)).map(chip => chip.dataset['shown']);
  expect(shown(VERBS, TIMES)).toEqual(['7 values', '0.25…65,536']);
  expect(shown({ ...VERBS, distinct: 1, top: VERBS.top.slice(0, 1) }, { ...TIMES, max: 0.25 })).toEqual(['GET', '0.25']);
  expect(shown({ ...VERBS, distinct: 10_000, more: true }, null)).toEqual(['10,000+ values', '#']);
  expect(shown({ ...VERBS, distinct: 1, top: [VERBS.top[3]!] }, null)[0]).toBe('<img src=x onerror=alert…');
  const [verb] = chips(row(group(), values(), false));
  expect([verb?.getAttribute('aria-label'), verb?.title]).toEqual(['text, 7 values', '7 values']);
});

it('chips show numbers as a range where they differ, however little', () => {
  const shown = (min: number, max: number): (string | undefined)[] =>
    chips(row(group(), values({ slots: [null, { ...TIMES, min, max }] }), false)).map(chip => chip.dataset['shown']).slice(1);
  expect(shown(0.69311, 0.69314)).toEqual(['0.69311…0.69314']);
  expect(shown(0.1 + 0.2, 0.3)).toEqual(['0.30000000000000004…0.3']);
  expect(shown(123456.1, 123456.4)).toEqual(['123456.1…123456.4']);
  expect(shown(65536, 65536)).toEqual(['65,536']);
});

it('chips say where they know some of the lines only', () => {
  const part = group({ count: 9000 });
  const shown = (known: GroupValues): (string | undefined)[] => chips(row(part, known, false)).map(chip => chip.dataset['shown']);
  expect(shown(values({ whole: false }))).toEqual(['~7 values', '~0.25…65,536']);
  expect(shown(values({ stored: true, whole: false }))).toEqual(['~7 values', '~0.25…65,536']);
  expect(shown(values({ stored: true }))).toEqual(['7 values', '0.25…65,536']);
  expect(chips(row(part, values({ whole: false }), false))[1]?.getAttribute('aria-label')).toBe('number, 0.25 to 65,536 in some of the lines');
  expect(shown(values({ slots: [null, null] }))).toEqual(['*', '#']);
});

it('lines that are all the same show their text, and no table', () => {
  const same = row(group({ shape: null, differs: false, text: 'ready' }), null, true);
  expect(same.querySelector('.lm-text')?.textContent).toBe('ready');
  expect(same.querySelector('.lm-values, .lm-slot')).toBeNull();
});

it('lines without a known template show the first, and that there are others', () => {
  const text = (change: Partial<GroupItem>): string | undefined =>
    row(group({ shape: null, text: 'first', ...change }), null, false).querySelector('.lm-body')?.textContent;
  expect(text({})).toBe('2,000×▸first and lines like it');
  expect(text({ others: true })).toBe('2,000×▸first and lines of other kinds');
});

it('ranks are named by those that are missing where that is shorter', () => {
  const ranks = [0, 1, 2, 4, 5, 6, 8, 9, 10, 12];
  const all = new Set(Array.from({ length: 13 }, (_, rank) => rank));
  expect(row(group({ ranks }), null, false, { ranks: all }).querySelector('.lm-who')?.textContent).toBe('[all but 3,7,11]');
  expect(row(group({ ranks }), null, false).querySelector('.lm-who')?.textContent).toBe('[0-2,4-6,8-10,12]');
});

it('opened, it tells the level, the ranks, and from when to when', () => {
  expect(row(group(), null, true).querySelector('.lm-facts')?.textContent).toMatch(
    /^2,000 lines · INFO · ranks 0-3 · \d\d:\d\d:01\.000 to \d\d:\d\d:02\.000$/
  );
});

it('opened, it shows what the slots hold in tables with heads, then its lines', () => {
  const open = row(group(), values(), true, { ranks: new Set(Array.from({ length: 16 }, (_, rank) => rank)) });
  expect(cells(open, 'Numbers')).toEqual([
    ['number', 'min', 'rank', 'median', 'max', 'rank'],
    ['took', '0.25', '[3]', '12.5', '65,536', '[0]']
  ]);
  expect(cells(open, 'Texts')).toEqual([
    ['text', 'value', 'lines', 'ranks'],
    ['request', 'GET', '1,500', '[all but 3,10]'],
    ['PUT', '400', '[3]'],
    ['nothing', '90', '[1]'],
    ['<img src=x onerror=alert(1)>\\u202e', '6', '[1]'],
    ['x'.repeat(120), '4', ''],
    ['and 2 more']
  ]);
  expect(open.querySelector('img')).toBeNull();
  expect([...open.querySelectorAll('thead th')].every(head => head.getAttribute('scope') === 'col')).toBe(true);
  const named = open.querySelector('table[aria-label="Texts"] tbody th');
  expect([named?.getAttribute('rowspan'), named?.getAttribute('scope')]).toEqual(['6', 'row']);
  expect(open.querySelector('.lm-values')?.nextElementSibling?.className).toBe('lm-chips');
  expect(open.querySelector('.lm-sub')?.textContent).toContain('request GET took 5 ms');
});

it('opened, it says where there are more different texts than are counted', () => {
  const told = values({ slots: [{ ...VERBS, distinct: 10_000, more: true }, TIMES], stored: true });
  expect(cells(row(group(), told, true), 'Texts').pop()).toEqual(['and 9,995+ more']);
});

it('opened, it says over how many lines the values are', () => {
  const note = (known: GroupValues | null, change: Partial<GroupItem> = {}): string | null | undefined =>
    row(group(change), known, true).querySelector('.lm-values > .lm-note')?.textContent;
  expect(note(null)).toBe('looking at the values …');
  expect(note(values())).toBeUndefined();
  expect(note(values(), { count: 9000 })).toBe('values of 2,000 of 9,000 lines');
  expect(note(values({ slots: [null, null] }))).toBe('the values are not known');
  expect(note(values({ stored: true, lines: 12_000 }), { count: 9000 })).toBe('values of all 12,000 lines in the store');
  expect(note(values({ stored: true, lines: 8000, whole: false }), { count: 9000 })).toBe('values of 8,000 lines in the store');
});

it('a click on a rank or a value asks to see only these', () => {
  const open = row(group(), values(), true);
  const click = (title: string): void => open.querySelector<HTMLButtonElement>(`[title="${title}"]`)?.click();
  click('show only lines of rank 3');
  expect(actions.showRanks).toHaveBeenLastCalledWith(new Set([3]));
  click('show only lines of rank 0-2,4-9,11-15');
  expect(actions.showRanks).toHaveBeenLastCalledWith(new Set([0, 1, 2, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15]));
  const value = [...open.querySelectorAll<HTMLButtonElement>('table button')].find(({ textContent }) => textContent.startsWith('<img'));
  value?.click();
  expect(actions.showText).toHaveBeenLastCalledWith(EVIL);
});

it('a value is shown in its colours, and asked for as the text that lines have', () => {
  const long = 'y'.repeat(999);
  const told = ['\x1b[32mOK\x1b[0m', `${long}z…`, `${long}\ufffd…`, `${long.slice(3)}\x1b[31…`, '\x1b[0m'];
  const top = told.map((value, at) => ({ value, count: 9 - at, ranks: '0' }));
  const open = row(group(), values({ slots: [{ ...VERBS, distinct: 5, top }, TIMES] }), true);
  const buttons = [...open.querySelectorAll<HTMLButtonElement>('table[aria-label="Texts"] button[title*="lines with"]')];
  expect(buttons[0]?.textContent).toBe('OK');
  expect(buttons[0]?.querySelector('span')?.style.color).toBe('var(--lm-green)');
  expect(buttons[0]?.title).toBe('show only lines with OK');
  buttons.forEach(button => button.click());
  expect(actions.showText.mock.calls.map(([text]) => text)).toEqual(['OK', `${long}z`, long, long.slice(3)]);
  expect(cells(open, 'Texts')[5]).toEqual(['nothing', '5', '[0]']);
});

it('the constant text of a template is as inert as that of lines, and may be coloured', () => {
  const shape = { pieces: ['\x1b[31mred\x1b[0m <b> ', '\x1b]0;title\x07'], kinds: '*' };
  const node = row(group({ shape }), null, false);
  expect(node.querySelector('.lm-text')?.textContent).toBe('red <b> <*>␛]0;title␇');
  expect(node.querySelector('b')).toBeNull();
  expect(node.querySelector<HTMLElement>('.lm-text span')?.style.color).toBe('var(--lm-red)');
});

it('a template that is very long is shown in part', () => {
  const shape = { pieces: Array.from({ length: 3000 }, () => 'piece '), kinds: '#'.repeat(2999) };
  const node = row(group({ shape }), null, false);
  expect(chips(node).length).toBeLessThan(200);
  expect(node.querySelector('.lm-text')?.textContent.endsWith('…')).toBe(true);
});

it('a row is built again when its values or its template change', () => {
  expect(stamp(group(), values())).toBe(stamp(group(), values()));
  expect(stamp(group(), values({ version: 2 }))).not.toBe(stamp(group(), values()));
  expect(stamp(group(), values())).not.toBe(stamp(group(), null));
  expect(stamp(group({ differs: false }))).not.toBe(stamp(group()));
});

it('a skip shows the templates of what was left out', () => {
  const skip: SkipItem = {
    kind: 'skip', id: 's', first: 0, end: 90, lines: 90, known: true, others: 0, errors: 0, wall: [1, 2], loading: false,
    groups: [{ text: 'request <*> took <#> ms', shape: REQUEST, count: 90, ranks: '0-6,8', level: 20, target: 1, job: '' }]
  };
  const open = row(skip, null, true);
  expect(open.querySelector('.lm-sub')?.textContent).toBe('[0-6,8]90×request <*> took <#> ms');
  expect(open.querySelectorAll('.lm-slot')).toHaveLength(2);
});
