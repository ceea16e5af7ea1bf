// @vitest-environment jsdom
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Bin, IQuery } from '../../src/core/api';
import { HistogramView } from '../../src/view/histogram';
import { FakeQuery, FakeSession } from './fakes';

const WIDTH = 800;
let view: HistogramView;
let query: FakeQuery;
let bars: number[][];

beforeEach(() => {
  vi.useFakeTimers();
  bars = [];
  vi.spyOn(HTMLElement.prototype, 'clientWidth', 'get').mockReturnValue(WIDTH);
  vi.spyOn(HTMLElement.prototype, 'clientHeight', 'get').mockReturnValue(50);
  vi.spyOn(HTMLCanvasElement.prototype, 'getContext').mockReturnValue({
    setTransform: () => undefined,
    clearRect: () => undefined,
    fillRect: (...rectangle: number[]) => bars.push(rectangle)
  } as never);
});

afterEach(() => {
  view.dispose();
  vi.useRealTimers();
  vi.restoreAllMocks();
});

function made(count: number): void {
  const bins = Array.from({ length: count }, (_, index): Bin => ({ start: 100 + index / 100, counts: [0, 0, 1, 0, 0, 0] }));
  query = new FakeQuery(new FakeSession());
  vi.spyOn(query, 'histogram').mockReturnValue({ step: 0.01, bins } satisfies ReturnType<IQuery['histogram']>);
  view = new HistogramView(query, vi.fn());
  document.body.replaceChildren(view.node);
  view.update();
  vi.advanceTimersByTime(50);
}

it.each([
  [5, 40],
  [40, 20],
  [160, 5]
])('%i bars are %i pixels wide', (count, width) => {
  made(count);
  expect(bars).toHaveLength(count);
  expect(bars[1]?.[0]).toBe(width);
  expect(bars[1]?.[2]).toBe(width - 1);
});

it('tells of the bar under the pointer', () => {
  made(5);
  view.node.dispatchEvent(new MouseEvent('pointermove', { clientX: 130 }));
  expect(view.node.querySelector('.lm-tip')?.textContent).toMatch(/\.030: 1 line/);
});
