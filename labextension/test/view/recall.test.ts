// @vitest-environment jsdom
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { SkipItem } from '../../src/core/api';
import { Recall } from '../../src/view/recall';
import { FakeQuery, FakeSession, line } from './fakes';

let session: FakeSession;
let query: FakeQuery;
let recall: Recall;
/** Tells whether the view is in sight; the newest observer's. */
let look: (...inSight: boolean[]) => void;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('IntersectionObserver', class {
    readonly observe = vi.fn();
    readonly disconnect = vi.fn();
    constructor(callback: (entries: { isIntersecting: boolean }[]) => void) {
      look = (...inSight) => callback(inSight.map(isIntersecting => ({ isIntersecting })));
    }
  });
  session = new FakeSession();
  query = new FakeQuery(session, [skip(100, 9000)]);
  query.notHeld = 8900;
  recall = new Recall(document.createElement('div'), session, query, vi.fn());
});

afterEach(() => {
  recall.dispose();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function skip(first: number, end: number, change: Partial<SkipItem> = {}): SkipItem {
  return {
    kind: 'skip', id: `s${first}`, first, end, lines: end - first, known: true, groups: [], others: 0, errors: 0, wall: [1, 2],
    loading: false, ...change
  };
}

/** As the view's frames do. */
function frames(): void {
  for (let frame = 0; frame < 60; frame += 1) {
    recall.update();
    vi.advanceTimersByTime(16);
  }
}

it('brings the lines when the view comes into sight, once', () => {
  frames();
  expect(session.fetch).not.toHaveBeenCalled();
  look(true);
  frames();
  expect(session.fetch.mock.calls).toEqual([[4000, 9000]]);
  look(false);
  look(true);
  frames();
  expect(session.fetch).toHaveBeenCalledTimes(1);
});

it('of several ranges it brings the last', () => {
  query.items = [skip(0, 100), skip(200, 900), skip(5000, 6000), skip(7000, 7001, { lines: 0 })];
  look(true);
  frames();
  expect(session.fetch.mock.calls).toEqual([[5000, 6000]]);
});

it('brings nothing where the lines are there but hidden by a filter', () => {
  query.hidden = 7;
  look(true);
  frames();
  query.hidden = 0;
  frames();
  expect(session.fetch).not.toHaveBeenCalled();
});

it('brings nothing where the lines come soon by themselves', () => {
  look(true);
  recall.update();
  vi.advanceTimersByTime(100);
  query.items.push(line(9000, 'last'));
  frames();
  expect(session.fetch).not.toHaveBeenCalled();
});

it('asks again before it brings: frames do not come in a page that nobody sees', () => {
  look(true);
  recall.update();
  query.items.push(line(9000, 'last'));
  vi.advanceTimersByTime(1000);
  expect(session.fetch).not.toHaveBeenCalled();
});

it('brings nothing where nobody knows of lines of the cell', () => {
  query.items = [skip(0, 50, { known: false })];
  query.notHeld = 0;
  look(true);
  frames();
  expect(session.fetch).not.toHaveBeenCalled();
});

it('brings nothing for a view that only passes by', () => {
  look(true);
  vi.advanceTimersByTime(100);
  look(true, false);
  frames();
  expect(session.fetch).not.toHaveBeenCalled();
});

it('waits for a connection, and for lines that are being brought', () => {
  session.connected = false;
  query.items = [skip(0, 50, { loading: true })];
  look(true);
  frames();
  session.connected = true;
  frames();
  expect(session.fetch).not.toHaveBeenCalled();
  query.items = [skip(0, 50)];
  frames();
  expect(session.fetch.mock.calls).toEqual([[0, 50]]);
});

it('asks nothing when the view is gone', () => {
  look(true);
  recall.update();
  recall.dispose();
  vi.advanceTimersByTime(1000);
  expect(session.fetch).not.toHaveBeenCalled();
});
