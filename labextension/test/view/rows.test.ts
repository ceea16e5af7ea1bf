// @vitest-environment jsdom
import { expect, it, vi } from 'vitest';
import type { BlockItem, GroupItem, Item, LiveItem, SkipItem, SkippedGroup } from '../../src/core/api';
import { buildRow, itemText, type RowActions, type RowLook, stamp } from '../../src/view/rows';
import { line, source } from './fakes';

const actions = {
  unfold: vi.fn<RowActions['unfold']>(),
  showWhole: vi.fn<RowActions['showWhole']>(),
  fetch: vi.fn<RowActions['fetch']>(),
  groupLines: () => [line(7, 'held line')],
  values: () => null,
  dropValues: vi.fn<RowActions['dropValues']>(),
  showRanks: vi.fn<RowActions['showRanks']>(),
  showText: vi.fn<RowActions['showText']>()
};

function look(change: Partial<RowLook> = {}): RowLook {
  return { time: 'off', base: 0, cells: false, marked: null, openFile: null, unfolded: new Map(), whole: new Set(), ranks: new Set(), ...change };
}

function row(item: Item, change: Partial<RowLook> = {}): HTMLElement {
  return buildRow(item, look(change), actions);
}

const block: BlockItem = {
  kind: 'block', id: 'b', row: 1, ranks: [0, 1, 2, 8], count: 4, source: source(0), target: 2, job: '', level: 40, cell: 1,
  wall: 5, title: 'ValueError: no', lines: ['Traceback (most recent call last):', 'ValueError: no'], open: false
};
const group: GroupItem = {
  kind: 'group', id: 'g', text: 'step <#>', shape: { pieces: ['step ', ''], kinds: '#' }, others: false, differs: true, count: 1200, ranks: [0, 1, 2], firstWall: 1, lastWall: 2, held: 1000,
  target: 1, job: '', level: 20, cell: 1
};
const skip: SkipItem = {
  kind: 'skip', id: 's', first: 0, end: 18204, lines: 18204, known: true, others: 4, errors: 3, wall: [1, 2], loading: false,
  groups: [{ text: 'lost <b>', shape: null, count: 18200, ranks: '0-7', level: 40, target: 2, job: '' }]
};

it('a line tells rank, stream, job and level, not by colour alone', () => {
  const node = row(line(1, 'text', { level: 40, target: 2, job: 'job 1' }));
  expect(node.querySelector('.lm-who')?.textContent).toBe('[1 job 1 err]');
  expect(node.querySelector('.lm-letter')?.textContent).toBe('E ERROR ');
  expect(node.querySelector('.lm-body')?.textContent).toBe('text');
});

it('times are absolute, relative or off', () => {
  const item = line(3, 'text', { wall: 1003.5 });
  expect(row(item).querySelector('.lm-time')).toBeNull();
  expect(row(item, { time: 'relative', base: 1000 }).querySelector('.lm-time')?.textContent).toBe('+3.500');
  expect(row(item, { time: 'absolute' }).querySelector('.lm-time')?.textContent).toMatch(/^\d\d:\d\d:\d\d\.500$/);
});

it('a long line shows its beginning, and all when asked', () => {
  const item = line(1, 'x'.repeat(9000));
  const cut = row(item);
  const button = cut.querySelector('button');
  expect(button?.textContent).toBe('show all (9,000 characters)');
  expect(cut.textContent.length).toBeLessThan(1100);
  button?.click();
  expect(actions.showWhole).toHaveBeenCalledWith(item, item.id);
  expect(row(item, { whole: new Set([item.id]) }).querySelector('.lm-body')?.textContent).toHaveLength(9000);
});

it('a traceback is one row that unfolds', () => {
  const folded = row(block);
  expect(folded.querySelector('.lm-who')?.textContent).toBe('[0-2,8 err]');
  expect(folded.querySelectorAll('.lm-sub')).toHaveLength(0);
  folded.querySelector<HTMLButtonElement>('.lm-fold')?.click();
  expect(actions.unfold).toHaveBeenLastCalledWith('b', { ranks: null, most: 200 });
  const open = row(block, { unfolded: new Map([['b', { ranks: null, most: 200 }]]) });
  expect([...open.querySelectorAll('.lm-sub')].map(node => node.textContent)).toEqual(block.lines);
  open.querySelector<HTMLButtonElement>('.lm-fold')?.click();
  expect(actions.unfold).toHaveBeenLastCalledWith('b', null);
});

it('a group opens to its lines, of all ranks or of one, and says what is not held', () => {
  const open = row(group, { unfolded: new Map([['g', { ranks: new Set([1]), most: 200 }]]) });
  const chips = [...open.querySelectorAll<HTMLButtonElement>('.lm-chip')];
  expect(chips.map(chip => [chip.textContent, chip.getAttribute('aria-pressed')])).toEqual([
    ['all', 'false'], ['0', 'false'], ['1', 'true'], ['2', 'false']
  ]);
  chips[3]?.click();
  expect(actions.unfold).toHaveBeenLastCalledWith('g', { ranks: new Set([2]), most: 200 });
  expect(open.querySelector('.lm-sub')?.textContent).toBe('[3]held line');
  expect(open.textContent).toContain('200 lines of this group not shown here, all in the store');
});

it('a skip says how many lines and errors, what they say, and brings them', () => {
  const node = row(skip, { unfolded: new Map([['s', { ranks: null, most: 200 }]]) });
  expect(node.textContent).toContain('18,204 lines not shown here, all in the store 3 with errors');
  expect(node.querySelector('.lm-sub')?.textContent).toBe('[0-7 err]18,200×lost <b>');
  expect(node.querySelector('b')).toBeNull();
  const [last, first] = node.querySelectorAll<HTMLButtonElement>('.lm-link');
  last?.click();
  first?.click();
  expect(actions.fetch.mock.calls).toEqual([[skip, 5000], [skip, -5000]]);
  expect(row({ ...skip, loading: true }).querySelector('.lm-link')).toBeNull();
});

it('a row is built again when what it shows changes, and only then', () => {
  expect(stamp(line(1, 'text'))).toBe(stamp(line(1, 'text')));
  expect(stamp({ ...group, count: 1201 })).not.toBe(stamp(group));
  expect(stamp({ ...skip, loading: true })).not.toBe(stamp(skip));
  expect(stamp({ ...block, open: true })).not.toBe(stamp(block));
});

it('a row is built again when its text is redrawn in the same length', () => {
  expect(stamp(line(1, '| 10% |'))).not.toBe(stamp(line(1, '| 20% |')));
  expect(stamp({ ...group, text: 'stop <#>' })).not.toBe(stamp(group));
});

it('a skip is built again when a late template, or more of the same, changes what it says', () => {
  const said = (change: Partial<SkippedGroup>): string =>
    stamp({ ...skip, groups: skip.groups.map(each => ({ ...each, ...change })) });
  expect(said({})).toBe(stamp(skip));
  for (const change of [{ text: 'lost <*>' }, { count: 18_201 }, { level: 50 }, { ranks: '0-8' }]) {
    expect(said(change)).not.toBe(stamp(skip));
  }
});

it('a row is built again when the source of its lines is learnt', () => {
  const unknown = source(-1);
  const learnt = source(2);
  const live: LiveItem = { ...line(1, 'text'), kind: 'live', id: 'v1.1' };
  expect(stamp({ ...line(1, 'text'), source: learnt })).not.toBe(stamp({ ...line(1, 'text'), source: unknown }));
  expect(stamp({ ...live, source: learnt })).not.toBe(stamp({ ...live, source: unknown }));
  expect(stamp({ ...block, ranks: [2] })).not.toBe(stamp({ ...block, ranks: [-1] }));
  expect(stamp({ ...group, ranks: [0, 2] })).not.toBe(stamp({ ...group, ranks: [-1, 0] }));
});

it('as text, items are inert and whole', () => {
  expect(itemText(line(1, '\x1b[31mred\x1b]0;x\x07'))).toBe('[1] red␛]0;x␇');
  expect(itemText(block)).toBe('[0-2,8 err] Traceback (most recent call last):\n[0-2,8 err] ValueError: no');
  expect(itemText(group)).toBe('[0-2] 1,200× step <#>');
});
