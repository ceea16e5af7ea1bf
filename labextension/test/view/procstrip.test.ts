// @vitest-environment jsdom
import { beforeEach, expect, it, vi } from 'vitest';
import { ProcStrip, procText } from '../../src/view/procstrip';
import { FakeSession, proc } from './fakes';

const choose = vi.fn<(ranks: ReadonlySet<number> | null) => void>();
let session: FakeSession;
let strip: ProcStrip;

function cell(rank: number): HTMLButtonElement {
  const node = strip.node.querySelector<HTMLButtonElement>(`[data-rank="${rank}"]`);
  if (!node) {
    throw new Error(`no cell of rank ${rank}`);
  }
  return node;
}

function click(rank: number, keys: MouseEventInit = {}): number[] | null {
  cell(rank).dispatchEvent(new MouseEvent('click', { bubbles: true, ...keys }));
  const ranks = choose.mock.lastCall?.[0] ?? null;
  strip.mark(ranks);
  return ranks && [...ranks].sort((left, right) => left - right);
}

beforeEach(() => {
  choose.mockReset();
  session = new FakeSession();
  session.procs = [0, 1, 2, 3, 4].map(rank => proc(rank));
  strip = new ProcStrip(session, null, choose);
  strip.setShown(true);
  document.body.replaceChildren(strip.node);
});

it('a click shows one rank, another one all; with Ctrl they add, with Shift they range', () => {
  expect(click(1)).toEqual([1]);
  expect(click(1)).toBeNull();
  expect(click(1)).toEqual([1]);
  expect(click(3, { ctrlKey: true })).toEqual([1, 3]);
  expect(click(3, { ctrlKey: true })).toEqual([1]);
  expect(click(0)).toEqual([0]);
  expect(click(3, { shiftKey: true })).toEqual([0, 1, 2, 3]);
});

it('shows states by sign, not by colour alone', () => {
  session.procs = [
    proc(0, { state: 'exited', code: 0 }),
    proc(1, { state: 'exited', code: 3 }),
    proc(2, { state: 'killed', code: 'SIGKILL' }),
    proc(3, { state: 'late' }),
    proc(4)
  ];
  session.emit('procs', undefined);
  expect([0, 1, 2, 3, 4].map(rank => cell(rank).textContent)).toEqual(['0 ✓', '1 ✕', '2 ☠', '3 ◷', '4']);
  expect(cell(2).getAttribute('aria-label')).toBe('rank 2, killed by SIGKILL');
});

it('a command that has ended does not hide the proc that it ran beside', () => {
  session.procs = [
    proc(0), proc(0, { id: 10, job: 'job 1', state: 'exited', code: 0 }),
    proc(1), proc(1, { id: 11, job: 'job 1', state: 'late' }),
    proc(2, { state: 'exited', code: 3 }), proc(2, { id: 12, job: 'job 2' }),
    proc(3, { id: 13, job: 'job 2', state: 'exited', code: 1 })
  ];
  session.emit('procs', undefined);
  expect([0, 1, 2, 3].map(rank => cell(rank).textContent)).toEqual(['0', '1 ◷', '2 ✕', '3 ✕']);
});

it('touches only what changed, and stays usable with thousands', () => {
  session.procs = Array.from({ length: 4096 }, (_, rank) => proc(rank));
  session.emit('procs', undefined);
  expect(strip.node.children.length).toBe(4096);
  const before = cell(7);
  let changes = 0;
  const observer = new MutationObserver(() => undefined);
  observer.observe(strip.node, { subtree: true, childList: true, attributes: true });
  session.procs = session.procs.map(each => (each.rank === 9 ? { ...each, state: 'late' } : { ...each, lines: 11 }));
  session.emit('procs', undefined);
  changes = new Set(observer.takeRecords().map(record => (record.target as HTMLElement).dataset['rank'])).size;
  expect(changes).toBeLessThanOrEqual(2);
  expect(cell(7)).toBe(before);
});

it('hidden builds nothing', () => {
  strip.setShown(false);
  expect(strip.node.hidden).toBe(true);
  const quiet = new ProcStrip(session, null, choose);
  session.emit('procs', undefined);
  expect(quiet.node.childElementCount).toBe(0);
});

it('arrow keys move between ranks', () => {
  cell(0).focus();
  for (const [key, rank] of [['ArrowRight', 1], ['End', 4], ['ArrowLeft', 3], ['Home', 0]] as const) {
    document.activeElement?.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    expect(document.activeElement).toBe(cell(rank));
  }
});

it('tells the figures, hostile names made inert', () => {
  const text = procText(proc(2, { host: 'h\u202e<b>', lines: 1200, rate: 25, age: 12, lost: 3 }));
  expect(text.split('\n')).toEqual([
    'rank 2: running',
    '1,200 lines, 25 lines/s',
    'last output 12 s ago',
    'host h\\u202e<b>, pid 102',
    '3 lost'
  ]);
});
