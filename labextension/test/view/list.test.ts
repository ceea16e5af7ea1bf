// @vitest-environment jsdom
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { LogList } from '../../src/view/list';
import type { RowLook } from '../../src/view/rows';
import { FakeQuery, FakeSession, line } from './fakes';

const ROW = 20;
const VIEW = 10 * ROW;

let query: FakeQuery;
let list: LogList;
const unfolded: Map<string, { ranks: null; most: number }> = new Map();
const followed = vi.fn();
const key = vi.fn();

/** Rows in a document without layout: each is `ROW` high, but for those whose text asks for more. */
function heightOf(node: HTMLElement): number {
  const tall = /tall (\d+)/.exec(node.textContent);
  return ROW * Number(tall?.[1] ?? 1);
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['requestAnimationFrame', 'cancelAnimationFrame'] });
  vi.spyOn(HTMLElement.prototype, 'clientHeight', 'get').mockReturnValue(VIEW);
  vi.spyOn(HTMLElement.prototype, 'offsetHeight', 'get').mockImplementation(function (this: HTMLElement) {
    return this.classList.contains('lm-row') ? heightOf(this) : VIEW;
  });
  vi.spyOn(window, 'getComputedStyle').mockReturnValue({ fontSize: '14px' } as CSSStyleDeclaration);
  query = new FakeQuery(new FakeSession(), Array.from({ length: 1000 }, (_, row) => line(row, `text ${row}`)));
  const look: RowLook = { time: 'off', base: 0, cells: false, marked: null, openFile: null, unfolded, whole: new Set(), ranks: new Set() };
  list = new LogList({
    query,
    look,
    actions: {
      unfold: vi.fn(), showWhole: vi.fn(), fetch: vi.fn(), groupLines: () => [], values: () => null,
      dropValues: vi.fn(), showRanks: vi.fn(), showText: vi.fn()
    },
    maxHeight: null,
    label: 'lines',
    followed,
    drawn: () => undefined,
    key
  });
  document.body.replaceChildren(list.node);
  frame();
});

afterEach(() => {
  list.dispose();
  vi.useRealTimers();
});

function frame(): void {
  vi.advanceTimersByTime(20);
}

function texts(): string[] {
  return [...list.node.querySelectorAll('.lm-body')].map(node => node.textContent);
}

/** Text of the row at the top of the view, and how much of it is above. */
function top(): [string, number] {
  const transform = list.node.querySelector<HTMLElement>('.lm-rows')?.style.transform ?? '';
  let at = Number(/translateY\(([\d.]+)px\)/.exec(transform)?.[1]);
  for (const row of list.node.querySelectorAll<HTMLElement>('.lm-row')) {
    if (at + heightOf(row) > list.node.scrollTop) {
      return [row.querySelector('.lm-body')?.textContent ?? '', list.node.scrollTop - at];
    }
    at += heightOf(row);
  }
  throw new Error('no row in view');
}

function scrollTo(pixels: number): void {
  list.node.scrollTop = pixels;
  list.node.dispatchEvent(new Event('scroll'));
  frame();
}

function press(name: string, options: KeyboardEventInit = {}): void {
  (document.activeElement ?? list.node).dispatchEvent(new KeyboardEvent('keydown', { key: name, bubbles: true, cancelable: true, ...options }));
}

it('holds only what is visible, and follows the end', () => {
  expect(texts().length).toBeLessThan(40);
  expect(texts().slice(-1)).toEqual(['text 999']);
  query.items.push(line(1000, 'text 1000'));
  query.emit('grown', 1);
  frame();
  expect(texts().slice(-1)).toEqual(['text 1000']);
  expect(list.node.scrollTop).toBe(1001 * ROW - VIEW);
});

it('draws once a frame, however often items come', () => {
  const item = vi.spyOn(query, 'item');
  for (let change = 0; change < 50; change += 1) {
    query.emit('grown', 1);
  }
  frame();
  expect(item.mock.calls.length).toBeLessThan(40);
});

it('keeps elements of rows that stay', () => {
  const before = list.node.querySelector('.lm-row:last-child');
  query.items.push(line(1000, 'text 1000'));
  query.emit('grown', 1);
  frame();
  expect(list.node.contains(before)).toBe(true);
});

it('builds no row again while it is being clicked', () => {
  const node = list.node.querySelector('.lm-row:last-child');
  const change = (text: string): void => {
    query.items[999] = line(999, text);
    query.emit('changed', undefined);
    frame();
  };
  node?.querySelector('.lm-body')?.dispatchEvent(new Event('pointerdown', { bubbles: true }));
  change('changed once');
  expect(list.node.contains(node)).toBe(true);
  document.dispatchEvent(new Event('pointerup'));
  frame();
  expect(texts().slice(-1)).toEqual(['changed once']);
  expect(list.node.contains(node)).toBe(false);
  change('changed again');
  expect(texts().slice(-1)).toEqual(['changed again']);
});

it('pauses when somebody scrolls up, keeps the place, and follows again at the end', () => {
  scrollTo(500 * ROW + 7);
  expect(list.following).toBe(false);
  expect(top()).toEqual(['text 500', 7]);
  query.items.push(...Array.from({ length: 100 }, (_, row) => line(1000 + row, 'more')));
  query.emit('grown', 100);
  frame();
  expect(top()).toEqual(['text 500', 7]);
  scrollTo(1100 * ROW - VIEW);
  expect(list.following).toBe(true);
});

it('keeps its place when items before it go, come, or change their height', () => {
  scrollTo(500 * ROW + 7);
  query.items.splice(0, 300);
  query.emit('changed', undefined);
  frame();
  expect(top()).toEqual(['text 500', 7]);
  query.items.unshift(...Array.from({ length: 50 }, (_, row) => line(5000 + row, 'fetched')));
  query.emit('changed', undefined);
  frame();
  expect(top()).toEqual(['text 500', 7]);
  const index = query.indexOf('row 498');
  query.items[index] = line(498, 'text 498 tall 6');
  query.emit('changed', undefined);
  frame();
  expect(top()).toEqual(['text 500', 7]);
});

it('shows the end of rows that turn out taller than thought', () => {
  query.items.push(line(1000, 'tall 5'), line(1001, 'tall 8'));
  query.emit('grown', 2);
  frame();
  expect(list.node.scrollTop).toBe((1000 + 5 + 8) * ROW - VIEW);
});

it('arrow keys move, Shift chooses, and what is chosen is text', () => {
  list.node.focus();
  press('Home');
  expect(document.activeElement?.querySelector('.lm-body')?.textContent).toBe('text 0');
  press('ArrowDown');
  press('ArrowDown', { shiftKey: true });
  expect(list.selection()).toBe('[1] text 1\n[2] text 2');
  press('ArrowDown');
  expect(list.selection()).toBe('');
  expect(list.currentText()).toBe('[3] text 3');
  for (let step = 0; step < 30; step += 1) {
    press('ArrowDown');
  }
  expect(document.activeElement?.querySelector('.lm-body')?.textContent).toBe('text 33');
  expect(list.node.scrollTop).toBe(34 * ROW - VIEW);
  press('End');
  expect(list.following).toBe(true);
});

/** The text of what has the focus, where that is a row or in one. */
function focusedText(): string | undefined {
  return document.activeElement?.closest('.lm-row')?.querySelector('.lm-body')?.textContent;
}

/** The texts of the rows that are marked as the current one and can be tabbed to. */
function currentTexts(): (string | undefined)[] {
  return [...list.node.querySelectorAll('.lm-row.lm-current[tabindex="0"]')].map(row => row.querySelector('.lm-body')?.textContent);
}

it('the current row stays so, with the focus, when its item becomes part of another', () => {
  list.node.focus();
  press('Home');
  press('ArrowDown');
  press('ArrowDown');
  press('ArrowDown');
  query.join(['row 1', 'row 3'], line(5000, 'both'));
  frame();
  expect([currentTexts(), focusedText()]).toEqual([['both'], 'both']);
  query.join(['row 5000'], line(5001, 'named anew'));
  frame();
  expect([currentTexts(), focusedText()]).toEqual([['named anew'], 'named anew']);
  press('ArrowDown');
  expect([currentTexts(), focusedText()]).toEqual([['text 2'], 'text 2']);
});

it('chosen rows stay so when their items become part of others', () => {
  list.node.focus();
  press('Home');
  press('ArrowDown', { shiftKey: true });
  press('ArrowDown', { shiftKey: true });
  query.join(['row 0'], line(5000, 'first'));
  query.join(['row 2', 'row 3'], line(5001, 'last'));
  frame();
  query.became.clear();
  expect(list.selection()).toBe('[0] first\n[1] text 1\n[1] last');
});

it('goes to what took the place of an item', () => {
  query.join(['row 300', 'row 301'], line(5000, 'both'));
  list.goTo('row 301', true);
  expect([currentTexts(), focusedText()]).toEqual([['both'], 'both']);
});

it('keeps a row that is being clicked when its item becomes part of another', () => {
  const node = list.node.querySelector('.lm-row:last-child');
  node?.querySelector('.lm-body')?.dispatchEvent(new Event('pointerdown', { bubbles: true }));
  query.join(['row 998', 'row 999'], line(5000, 'both'));
  frame();
  expect(list.node.querySelector('.lm-row:last-child')).toBe(node);
  document.dispatchEvent(new Event('pointerup'));
  frame();
  expect(texts().slice(-2)).toEqual(['text 997', 'both']);
});

it('moves no row, which would lose its focus, when rows before it go', () => {
  list.node.focus();
  press('Home');
  for (let step = 0; step < 9; step += 1) {
    press('ArrowDown');
  }
  const blurred = vi.fn();
  list.node.addEventListener('focusout', blurred);
  scrollTo(9 * ROW);
  expect(texts()[0]).toBe('text 1');
  expect([focusedText(), blurred.mock.calls.length]).toEqual(['text 9', 0]);
});

it('keeps the focus when the focused row goes out of sight', () => {
  list.node.focus();
  press('Home');
  scrollTo(800 * ROW);
  expect(document.activeElement).toBe(list.node);
});

it('hands on the keys that it has no use for', () => {
  list.node.focus();
  press('e');
  expect(key).toHaveBeenCalled();
});
