// @vitest-environment jsdom
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { GroupItem, GroupValues, SkipItem } from '../../src/core/api';
import { LogList } from '../../src/view/list';
import { LogView, type LogViewOptions } from '../../src/view/logview';
import { FakeQuery, FakeSession, line, proc } from './fakes';

let session: FakeSession;
let query: FakeQuery;
let view: LogView;

function made(count: number, options: Partial<LogViewOptions> = {}): void {
  session = new FakeSession();
  session.procs = [proc(0), proc(1)];
  session.setState({});
  query = new FakeQuery(session, Array.from({ length: count }, (_, row) => line(row, `text ${row}`)));
  view = new LogView({ session, query, cell: 1, ...options });
  document.body.replaceChildren(view.node);
  vi.advanceTimersByTime(50);
}

function shown(selector: string): boolean {
  const node = view.node.querySelector<HTMLElement>(selector);
  return node !== null && !node.hidden;
}

function press(target: Element | null, key: string): boolean {
  return target?.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true })) ?? false;
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(window, 'getComputedStyle').mockReturnValue({ fontSize: '13px', backgroundColor: '', getPropertyValue: () => '' } as unknown as CSSStyleDeclaration);
});

afterEach(() => {
  view.dispose();
  vi.useRealTimers();
  vi.restoreAllMocks();
});

it('is calm with few lines, and shows more with many', () => {
  made(3);
  expect(['.lm-bar', '.lm-histogram', '.lm-procs', '.lm-foot'].map(shown)).toEqual([false, false, false, true]);
  query.items.push(...Array.from({ length: 300 }, (_, row) => line(10 + row, 'more')));
  query.emit('grown', 300);
  vi.advanceTimersByTime(50);
  expect(['.lm-bar', '.lm-histogram', '.lm-procs'].map(shown)).toEqual([true, true, false]);
});

it('in a panel shows everything at once', () => {
  made(0, { cell: null, fill: true });
  expect(['.lm-bar', '.lm-histogram', '.lm-procs'].map(shown)).toEqual([true, true, true]);
  expect(view.node.querySelector('[aria-label="Cell"]')).not.toBeNull();
});

it('does what commands say', () => {
  made(3);
  view.command('toggle-grouped');
  expect(query.grouped).toBe(true);
  view.command('toggle-controls');
  expect(shown('.lm-bar')).toBe(true);
  view.command('toggle-procs');
  expect(shown('.lm-procs')).toBe(true);
  view.command('toggle-wrap');
  expect(view.node.querySelector('.lm-wrapped')).toBeNull();
  view.command('flush');
  view.command('toggle-stream');
  expect(session.asked.map(asked => asked.request)).toEqual([{ type: 'flush' }, { type: 'set_mode', stream: false }]);
  view.command('find');
  expect(document.activeElement?.getAttribute('aria-label')).toBe('Search text');
});

it('a click on a rank filters, the field shows it folded, and clearing takes all filters back', () => {
  made(3);
  view.command('toggle-procs');
  view.node.querySelector<HTMLButtonElement>('[data-rank="1"]')?.click();
  expect(query.filter.ranks).toEqual(new Set([1]));
  const field = view.node.querySelector<HTMLInputElement>('.lm-input');
  expect(field?.value).toBe('1');
  if (field) {
    field.value = '0-1,5';
    field.dispatchEvent(new Event('input'));
  }
  expect(query.filter.ranks).toEqual(new Set([0, 1, 5]));
  if (field) {
    field.value = '1-';
    field.dispatchEvent(new Event('input'));
  }
  expect(field?.getAttribute('aria-invalid')).toBe('true');
  expect(query.filter.ranks).toEqual(new Set([0, 1, 5]));
  query.setFilter({ minLevel: 40, time: [1, 2], targets: 2 });
  view.command('clear-filters');
  expect(query.filter).toMatchObject({ ranks: null, minLevel: 0, time: null, targets: 3, text: '' });
  expect(field?.value).toBe('');
});

it('keys are commands in the list, and text in a field; handled ones go no further', () => {
  made(20);
  const outside = vi.fn();
  document.body.addEventListener('keydown', outside);
  press(view.node.querySelector('.lm-list'), 'g');
  expect(query.grouped).toBe(true);
  expect(outside).not.toHaveBeenCalled();
  press(view.node.querySelector('.lm-search-text'), 'g');
  expect(query.grouped).toBe(true);
  expect(view.node.dataset['lmSuppressShortcuts']).toBe('true');
  document.body.removeEventListener('keydown', outside);
});

it('takes the focus at a click, before a notebook around it can', () => {
  made(20);
  const active = vi.fn(() => view.node.contains(document.activeElement));
  document.body.addEventListener('mousedown', active, { once: true });
  view.node.querySelector('.lm-body')?.dispatchEvent(new MouseEvent('mousedown', { bubbles: true }));
  expect(active).toHaveReturnedWith(true);
  expect(document.activeElement?.hasAttribute('data-lm-suppress-shortcuts')).toBe(true);
});

it('tells times from none to relative', () => {
  made(3);
  const times = (): string[] => [...view.node.querySelectorAll('.lm-time')].map(node => node.textContent);
  expect(times()).toEqual([]);
  view.command('cycle-time');
  vi.advanceTimersByTime(50);
  expect(times()[2]).toMatch(/^\d\d:\d\d:\d\d\.000$/);
  view.command('cycle-time');
  vi.advanceTimersByTime(50);
  expect(times()).toEqual(['+0.000', '+1.000', '+2.000']);
});

it('fetches what a skip left out, and tells why it cannot', async () => {
  made(1);
  query.items.unshift({
    kind: 'skip', id: 'skip', first: 0, end: 12_000, lines: 12_000, known: true, groups: [], others: 0, errors: 0, wall: [1, 2], loading: false
  });
  query.emit('changed', undefined);
  vi.advanceTimersByTime(50);
  session.fetch.mockRejectedValueOnce(new Error('the kernel is gone'));
  const [last, first] = view.node.querySelectorAll<HTMLButtonElement>('.lm-skip .lm-link');
  last?.click();
  await vi.advanceTimersByTimeAsync(10);
  expect(view.node.querySelector('.lm-message')?.textContent).toBe('✕ the kernel is gone');
  first?.click();
  expect(session.fetch.mock.calls).toEqual([[7000, 12_000], [0, 5000]]);
});

it('ends with everything that it made', () => {
  made(3);
  view.dispose();
  expect(query.dispose).toHaveBeenCalled();
  expect(document.querySelector('.lm-root')).toBeNull();
});

it('brings the lines of its cell when it holds none of them, once', () => {
  made(0);
  const skip: SkipItem = {
    kind: 'skip', id: 's0', first: 100, end: 9000, lines: 8000, known: true, groups: [], others: 8000, errors: 0, wall: [1, 2],
    loading: false
  };
  query.items.push(skip);
  query.notHeld = skip.lines;
  query.emit('changed', undefined);
  vi.advanceTimersByTime(1000);
  expect(session.fetch.mock.calls).toEqual([[4000, 9000]]);
  query.emit('changed', undefined);
  vi.advanceTimersByTime(1000);
  expect(session.fetch).toHaveBeenCalledTimes(1);
});

it('brings nothing by itself where it holds lines, and for the whole mesh', () => {
  const skip: SkipItem = {
    kind: 'skip', id: 's0', first: 0, end: 50, lines: 50, known: true, groups: [], others: 50, errors: 0, wall: [1, 2],
    loading: false
  };
  made(2);
  query.items.unshift(skip);
  query.notHeld = skip.lines;
  query.emit('changed', undefined);
  vi.advanceTimersByTime(1000);
  expect(session.fetch).not.toHaveBeenCalled();
  view.dispose();
  made(0, { cell: null });
  query.items.push(skip);
  query.notHeld = skip.lines;
  query.emit('changed', undefined);
  vi.advanceTimersByTime(1000);
  expect(session.fetch).not.toHaveBeenCalled();
});

it('stays calm where many lines are one row', () => {
  made(0);
  query.items.push({ ...line(0, 'x'), kind: 'block', title: 'ValueError: x', lines: Array.from({ length: 40 }, () => 'x'), ranks: [0], count: 1, open: false });
  vi.spyOn(query, 'shown', 'get').mockReturnValue(40);
  query.emit('changed', undefined);
  vi.advanceTimersByTime(50);
  expect(shown('.lm-bar')).toBe(false);
});

it('counts lines that it holds no more: new ones, errors, and what it announces', () => {
  made(20);
  const steps = [...view.node.querySelectorAll<HTMLButtonElement>('[aria-label$=" error"]')];
  expect(steps.map(step => step.disabled)).toEqual([true, true]);
  vi.advanceTimersByTime(1000);
  view.command('toggle-follow');
  vi.spyOn(LogList.prototype, 'atEnd', 'get').mockReturnValue(false);
  query.notHeld = 1_000_000;
  query.errors = 3;
  query.emit('changed', undefined);
  vi.advanceTimersByTime(50);
  expect(view.node.querySelector('.lm-jump')?.textContent).toBe('1,000,000 new lines, jump to end');
  expect(steps.map(step => step.disabled)).toEqual([false, false]);
  expect(view.node.querySelector('.lm-errors')?.textContent).toBe('3 err');
  expect(view.node.querySelector('.lm-counts')?.textContent).toBe('1,000,020 lines, 1,000,000 not shown here');
  vi.advanceTimersByTime(6000);
  expect(view.node.querySelector('[aria-live="polite"]')?.textContent).toBe('1,000,000 new lines, 3 errors');
  query.hidden = 8;
  query.emit('changed', undefined);
  vi.advanceTimersByTime(50);
  expect(view.node.querySelector('.lm-counts')?.textContent).toBe('20 lines, 1,000,000 not shown here');
});

const GROUP: GroupItem = {
  kind: 'group', id: 'g1', text: 'verb <*> took <#>', shape: { pieces: ['verb ', ' took ', ''], kinds: '*#' }, differs: true,
  others: false, count: 10, ranks: [0, 1, 2, 4, 5, 6, 8, 9, 10], firstWall: 1, lastWall: 2, held: 10, target: 1, job: '', level: 0, cell: 1
};
const VALUES: GroupValues = {
  slots: [
    { kind: '*', distinct: 1, more: false, top: [{ value: 'a.b(', count: 10, ranks: '0' }] },
    { kind: '#', count: 10, min: 1, minRank: 4, median: 2, max: 3, maxRank: 0 }
  ],
  lines: 10, stored: false, whole: true, version: 1
};

function grouped(): void {
  made(0);
  query.grouped = true;
  query.items.push(GROUP);
  query.values.mockReturnValue(VALUES);
  query.emit('changed', undefined);
  vi.advanceTimersByTime(50);
}

function unfold(): void {
  view.node.querySelector<HTMLButtonElement>('.lm-fold')?.click();
  vi.advanceTimersByTime(50);
}

it('a click on a rank or on a value of a group filters, and the controls show that', () => {
  grouped();
  unfold();
  view.node.querySelector<HTMLButtonElement>('[title="show only lines of rank 4"]')?.click();
  expect(query.filter.ranks).toEqual(new Set([4]));
  expect(view.node.querySelector<HTMLInputElement>('.lm-input')?.value).toBe('4');
  view.node.querySelector<HTMLButtonElement>('[aria-label="Regular expression"]')?.click();
  [...view.node.querySelectorAll<HTMLButtonElement>('.lm-slots button')].find(({ textContent }) => textContent === 'a.b(')?.click();
  expect(query.filter).toMatchObject({ text: 'a.b(', regex: false, ranks: new Set([4]) });
  expect([view.node.querySelector<HTMLInputElement>('.lm-search-text')?.value, shown('.lm-bar')]).toEqual(['a.b(', true]);
});

it('asks for values of groups that are in sight, of the store where they are open, and gives them up', () => {
  grouped();
  expect(query.values).toHaveBeenLastCalledWith('g1', false);
  unfold();
  expect(query.values).toHaveBeenLastCalledWith('g1', true);
  expect(query.dropValues).not.toHaveBeenCalled();
  query.items.length = 0;
  query.emit('changed', undefined);
  vi.advanceTimersByTime(50);
  expect(query.dropValues).toHaveBeenCalledWith('g1');
});

it('a group stays open when it becomes part of another', () => {
  grouped();
  unfold();
  query.join(['g1'], { ...GROUP, id: 'g2', count: 20 });
  vi.advanceTimersByTime(50);
  expect(view.node.querySelector('.lm-fold')?.getAttribute('aria-expanded')).toBe('true');
});

it('a click opens a group that becomes part of another between press and release', () => {
  grouped();
  const fold = view.node.querySelector<HTMLButtonElement>('.lm-fold');
  fold?.dispatchEvent(new Event('pointerdown', { bubbles: true }));
  query.join(['g1'], { ...GROUP, id: 'g2', count: 20 });
  vi.advanceTimersByTime(50);
  document.dispatchEvent(new Event('pointerup'));
  expect(view.node.contains(fold)).toBe(true);
  fold?.click();
  vi.advanceTimersByTime(50);
  expect(view.node.querySelector('.lm-fold')?.getAttribute('aria-expanded')).toBe('true');
  expect(view.node.querySelector('.lm-times')?.textContent).toBe('20×');
});

it('names ranks shorter as soon as it knows which there are', () => {
  grouped();
  const named = (): string | null | undefined => view.node.querySelector('.lm-who')?.textContent;
  expect(named()).toBe('[0-2,4-6,8-10]');
  session.procs = Array.from({ length: 11 }, (_, rank) => proc(rank));
  session.procs.push(proc(99, { job: 'job 1' }));
  session.emit('procs', undefined);
  vi.advanceTimersByTime(50);
  expect(named()).toBe('[all but 3,7]');
});
