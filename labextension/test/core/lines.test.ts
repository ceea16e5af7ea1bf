import { describe, expect, it } from 'vitest';
import type { Item } from '../../src/core/api';
import { Query } from '../../src/core/query';
import { Session } from '../../src/core/session';
import { FakeKernel, FakeTransport, HandScheduler, randomFrom } from './kernel';
import type { Line } from './kernel';
import type { RowsMessage, SkipMessage } from '../../src/core/protocol';

const TEXTS = [
  'step 1', 'step 22', 'ERROR: x', 'WARNING: y', '', 'gr\u00fc\u00df \ud83d\ude00', '10%\r20%', '\x1b[31mred\x1b[0m',
  'Traceback (most recent call last):', '  File "/a/x.py", line 1, in f', '    f()', 'ValueError: x',
  '\rb: 1\x1b[A', '\ra: 2', '\ufeffmark', 'trailing\r'
];

function randomLines(random: () => number, count: number): Line[] {
  const pick = (most: number): number => Math.floor(random() * most);
  return Array.from({ length: count }, (_, row) => ({
    text: TEXTS[pick(TEXTS.length)] as string,
    source: pick(3),
    target: 1 + pick(2),
    cell: row < count / 2 ? 1 : 1 + pick(2),
    wall: 1000 + row / 10
  }));
}

interface Page {
  session: Session;
  query: Query;
  scheduler: HandScheduler;
  transport: FakeTransport;
}

function page(bounds?: { lines: number; bytes: number }): Page {
  const scheduler = new HandScheduler();
  const session = new Session('s', bounds === undefined ? { scheduler } : { scheduler, bounds });
  const transport = new FakeTransport();
  session.attach(transport);
  return { session, scheduler, transport, query: new Query(session) };
}

function give({ transport, scheduler }: Page, sent: { message: RowsMessage; buffer: DataView }): void {
  transport.receive(sent.message, sent.buffer);
  scheduler.settle();
}

function itemsOf(query: Query): Item[] {
  return Array.from({ length: query.length }, (_, index) => query.item(index));
}

function skipOf(kernel: FakeKernel, first: number, end: number): SkipMessage {
  const cells = new Map<number, SkipMessage['cells'][number]>();
  for (const { cell, row } of kernel.lines.slice(first, end)) {
    const [, lines, begin] = cells.get(cell) ?? [cell, 0, row, row];
    cells.set(cell, [cell, lines + 1, begin, row + 1]);
  }
  return {
    first, end,
    cells: [...cells.values()],
    wall: [kernel.lines[first]?.wall ?? 0, kernel.lines[end - 1]?.wall ?? 0],
    groups: [],
    others: end - first
  };
}

describe('rows', () => {
  it.each(Array.from({ length: 60 }, (_, at) => 7000 + at))(
    'give the same list in any order, split and repeated (seed %i)',
    seed => {
      const random = randomFrom(seed);
      const pick = (most: number): number => Math.floor(random() * most);
      const kernel = new FakeKernel();
      kernel.add(...randomLines(random, 40 + pick(60)));
      const count = kernel.lines.length;

      const straight = page();
      give(straight, kernel.rows(0, count, { live: true }));
      const grouped = new Query(straight.session);
      grouped.setGrouped(true);

      const shuffled = page();
      const shuffledGroups = new Query(shuffled.session);
      shuffledGroups.setGrouped(true);
      const ranges: [number, number][] = [];
      for (let first = 0; first < count; ) {
        const end = Math.min(count, first + 1 + pick(15));
        ranges.push([first, end]);
        if (random() < 0.4) {
          ranges.push([Math.max(0, first - pick(10)), Math.min(count, end + pick(10))]);
        }
        first = end;
      }
      for (let at = ranges.length - 1; at > 0; at -= 1) {
        const other = pick(at + 1);
        [ranges[at], ranges[other]] = [ranges[other], ranges[at]] as [[number, number], [number, number]];
      }
      for (const [first, end] of ranges) {
        if (random() < 0.3) {
          const from = pick(count);
          const to = Math.min(count, from + 1 + pick(30));
          give(shuffled, kernel.rows(from, to, { skips: [skipOf(kernel, from, to)] }));
        }
        give(shuffled, kernel.rows(first, end));
        shuffled.scheduler.run(1);
      }
      shuffled.scheduler.run(20);
      expect(itemsOf(shuffled.query)).toEqual(itemsOf(straight.query));
      expect(itemsOf(shuffledGroups)).toEqual(itemsOf(grouped));
      expect(shuffled.query.levels).toEqual(straight.query.levels);
      expect(shuffled.query.shown).toBe(straight.query.shown);
      expect(shuffled.session.errors).toBe(straight.session.errors);
      expect(shuffled.session.store.held).toBe(count);
      for (let index = 0; index < shuffled.query.length; index += 1) {
        expect(shuffled.query.indexOf(shuffled.query.item(index).id)).toBe(index);
      }
    }
  );

  it('that come one by one stay few segments', () => {
    const all = page();
    const kernel = new FakeKernel();
    for (let row = 0; row < 3000; row += 1) {
      kernel.add(`line ${row}`);
      give(all, kernel.rows(row, row + 1, { live: true }));
    }
    expect(all.session.store.parts).toHaveLength(1);
    expect(all.query.length).toBe(3000);
    expect(all.query.item(2999)).toMatchObject({ text: 'line 2999', row: 2999 });
  });

  it('beyond the bounds leave, the oldest first, but not those just asked for', () => {
    const all = page({ lines: 10_000, bytes: 1 << 30 });
    const kernel = new FakeKernel();
    for (let row = 0; row < 30_000; row += 1) {
      kernel.add(row % 100 === 0 ? `ERROR: ${row}` : `line ${row}`);
    }
    for (let row = 0; row < 30_000; row += 1000) {
      give(all, kernel.rows(row, row + 1000, { live: true }));
    }
    const { store } = all.session;
    expect(store.held).toBeLessThanOrEqual(10_000);
    expect(store.held).toBeGreaterThan(5000);
    expect(all.query.item(0)).toMatchObject({ kind: 'skip', first: 0, known: false });
    expect(all.session.errors).toBe(300);
    expect(all.query.item(all.query.length - 1)).toMatchObject({ text: 'line 29999' });
    store.keep(0, 1000);
    give(all, kernel.rows(0, 1000));
    expect(all.query.item(0)).toMatchObject({ text: 'ERROR: 0' });
    expect(store.held).toBeLessThanOrEqual(10_000);
    expect(all.session.errors).toBe(300);
  });

  it('that leave stay counted in their groups, but are not held', () => {
    const all = page({ lines: 5000, bytes: 1 << 30 });
    all.query.setGrouped(true);
    const kernel = new FakeKernel();
    kernel.add(...Array.from({ length: 12_000 }, (_, row) => ({ text: row % 2 ? `odd ${row}` : 'even' })));
    for (let row = 0; row < 12_000; row += 1000) {
      give(all, kernel.rows(row, row + 1000, { live: true }));
    }
    const { held } = all.session.store;
    expect(itemsOf(all.query)).toMatchObject([
      { kind: 'group', count: 6000, held: held / 2, text: 'even' },
      { kind: 'group', count: 6000, held: held / 2, text: 'odd <#>' }
    ]);
  });

  it('that were shortened are replaced by whole ones', () => {
    const all = page();
    const kernel = new FakeKernel();
    kernel.add('a', { text: 'long', flags: 32, trueBytes: 9 }, 'c');
    give(all, kernel.rows(0, 3));
    expect(all.query.item(1)).toMatchObject({ shortened: true, note: 'line of 9 bytes, shortened here' });
    (kernel.lines[1] as { text: string }).text = 'long line';
    (kernel.lines[1] as { flags: number }).flags = 0;
    give(all, kernel.rows(1, 2));
    expect(itemsOf(all.query)).toMatchObject([
      { text: 'a' }, { text: 'long line', shortened: false, note: '' }, { text: 'c' }
    ]);
  });

  it('of a message that is shorter than it says are not taken', () => {
    const all = page();
    const kernel = new FakeKernel();
    kernel.add('a', 'b');
    const { message } = kernel.rows(0, 2);
    const error = console.error;
    console.error = () => undefined;
    give(all, { message, buffer: new DataView(new ArrayBuffer(0)) });
    console.error = error;
    expect(all.query.length).toBe(0);
  });
});

describe('skips', () => {
  it('count less what has come since', () => {
    const all = page();
    const kernel = new FakeKernel();
    kernel.add(...Array.from({ length: 10 }, (_, row) => ({ text: `step ${row}`, source: row % 2 })));
    const skip: SkipMessage = {
      first: 2, end: 8, cells: [[1, 6, 2, 8]], wall: [1, 2], others: 0,
      groups: [[1, '', 1, 'step 2', 6, '0-1', 1, kernel.like('step 2')]]
    };
    give(all, kernel.rows(0, 10, { live: true, skips: [skip] }));
    expect(all.query.item(2)).toMatchObject({ kind: 'skip', lines: 6, groups: [{ count: 6 }] });
    give(all, kernel.rows(4, 6));
    expect(itemsOf(all.query).filter(item => item.kind === 'skip')).toMatchObject([
      { first: 2, end: 4 }, { first: 6, end: 8 }
    ]);
    give(all, kernel.rows(2, 4));
    expect(itemsOf(all.query)[6]).toMatchObject({ kind: 'skip', lines: 2, groups: [{ count: 2 }] });
    all.query.setGrouped(true);
    expect(itemsOf(all.query)).toMatchObject([
      { kind: 'group', count: 10, held: 8, text: 'step <#>', differs: true, ranks: [0, 1] }
    ]);
  });

  it('do not remove lines that are held', () => {
    const all = page();
    const kernel = new FakeKernel();
    kernel.add('a', 'b', 'c');
    give(all, kernel.rows(0, 3));
    give(all, kernel.rows(0, 3, { skips: [skipOf(kernel, 0, 3)] }));
    expect(itemsOf(all.query)).toMatchObject([{ text: 'a' }, { text: 'b' }, { text: 'c' }]);
  });
});

describe('a skip of several cells', () => {
  it('names the rows among which the lines of the list\'s cell are', () => {
    const kernel = new FakeKernel();
    kernel.add(...Array.from({ length: 12 }, (_, row) => ({ text: `line ${row}`, cell: row < 4 ? 1 : row < 6 ? 2 : 3 })));
    const shown = page();
    shown.query.setFilter({ cell: 2 });
    give(shown, kernel.rows(0, 12, { skips: [skipOf(kernel, 0, 12)] }));
    expect(itemsOf(shown.query)).toMatchObject([{ kind: 'skip', first: 4, end: 6, lines: 2 }]);
    // What is left of it when rows of another cell have come is two ranges; only one has its lines.
    give(shown, kernel.rows(6, 7));
    expect(itemsOf(shown.query)).toMatchObject([{ kind: 'skip', first: 4, end: 6, lines: 2 }]);
    give(shown, kernel.rows(4, 6));
    expect(itemsOf(shown.query)).toMatchObject([{ kind: 'line', text: 'line 4' }, { kind: 'line', text: 'line 5' }]);
  });
});

/** Lines of three cells in turn. */
function interleaved(count: number): FakeKernel {
  const kernel = new FakeKernel();
  kernel.add(...Array.from({ length: count }, (_, row) => ({ text: `step ${row}`, cell: 1 + (row % 3) })));
  return kernel;
}

function sumOf(items: readonly Item[]): number {
  return items.reduce((sum, item) => sum + (item.kind === 'skip' ? item.lines : 0), 0);
}

describe('the pieces of a skip', () => {
  it.each([0, 50])('together have as many lines of a cell as are not held (%i of them in a group)', grouped => {
    const kernel = interleaved(300);
    const all = page();
    const inGroups = new Query(all.session);
    inGroups.setGrouped(true);
    const skip = {
      ...skipOf(kernel, 0, 300),
      groups: grouped
        ? [[1, '', 1, 'other 1', grouped, '0', 1, kernel.like('other 1')] as SkipMessage['groups'][number]]
        : []
    };
    for (const query of [all.query, inGroups]) {
      query.setFilter({ cell: 1 });
    }
    give(all, kernel.rows(0, 300, { live: true, skips: [skip] }));
    let held = 0;
    for (const [first, end] of [[100, 130], [10, 13], [270, 300], [0, 10]] as const) {
      give(all, kernel.rows(first, end));
      all.scheduler.run(20);
      held += kernel.lines.slice(first, end).filter(line => line.cell === 1).length;
      const items = itemsOf(all.query);
      expect(sumOf(items)).toBe(100 - held);
      expect(all.query.notHeld).toBe(100 - held);
      for (const item of items) {
        expect(item.kind !== 'skip' || item.lines <= item.end - item.first).toBe(true);
      }
      expect(sumOf(itemsOf(inGroups))).toBe(100 - held - grouped);
    }
  });
});

describe('what is not held', () => {
  it('is counted with its errors, by cell', () => {
    const kernel = new FakeKernel();
    kernel.add(...Array.from({ length: 9000 }, (_, row) => ({
      text: row % 10 === 0 ? 'ERROR: x' : `line ${row}`, cell: row % 2 ? 1 : 2
    })));
    const all = page({ lines: 2000, bytes: 1 << 30 });
    const one = new Query(all.session, { cell: 1 });
    for (let row = 0; row < 9000; row += 1000) {
      give(all, kernel.rows(row, row + 1000, { live: true }));
    }
    const { held } = all.session.store;
    expect(held).toBeLessThanOrEqual(2000);
    expect([all.query.shown + all.query.notHeld, one.shown + one.notHeld]).toEqual([9000, 4500]);
    expect([all.query.errors, one.errors]).toEqual([900, 0]);
    one.setFilter({ cell: 2 });
    expect([one.shown + one.notHeld, one.errors]).toEqual([4500, 900]);
    expect(one.item(0)).toMatchObject({ kind: 'skip', errors: 900 - one.levels[4] });
    one.setGrouped(true);
    one.setGrouped(false);
    expect(one.nextError(1, -1)).toBe(0);
  });

  it('is one skip, however often the kernel left lines out', () => {
    const all = page({ lines: 1000, bytes: 1 << 30 });
    all.query.setGrouped(true);
    const plain = new Query(all.session);
    const kernel = new FakeKernel();
    const lines = 30_000;
    for (let row = 0; row < lines; row += 100) {
      kernel.add(...Array.from({ length: 100 }, (_, at) => ({ text: `word${'x'.repeat((row / 100) % 60)} ${at}` })));
      const text = `ERROR: word${'x'.repeat((row / 100) % 60)} ${row}`;
      const skip: SkipMessage = {
        ...skipOf(kernel, row + 20, row + 100),
        groups: [[1, '', 1, text, 80, `${row % 7}`, 1, kernel.like(text)]]
      };
      give(all, kernel.rows(row, row + 100, { live: true, skips: [skip] }));
      all.scheduler.run(5);
    }
    const { store } = all.session;
    expect(store.held).toBeLessThanOrEqual(1000);
    expect(store.parts.length).toBeLessThan(110);
    expect(plain.item(0)).toMatchObject({ kind: 'skip', first: 0, known: true });
    const first = plain.item(0);
    expect(first.kind === 'skip' && first.groups.length).toBe(50);
    expect(plain.shown + plain.notHeld).toBe(lines);
    expect([plain.errors, all.session.errors]).toEqual([lines * 0.8, lines * 0.8]);
    // Read while it came, or all at once now: every line is counted once.
    for (let time = 0; time < 2; time += 1) {
      const counted = itemsOf(all.query).reduce(
        (sum, item) => sum + (item.kind === 'group' ? item.count : item.kind === 'skip' ? item.lines : 0), 0
      );
      expect(counted).toBe(lines);
      all.query.setGrouped(false);
      all.query.setGrouped(true);
      all.scheduler.run(100);
    }
  });

  it('is counted once in groups, however it is read and joined meanwhile', () => {
    const all = page({ lines: 1000, bytes: 1 << 30 });
    all.query.setGrouped(true);
    const kernel = new FakeKernel();
    const giveUntil = (end: number): void => {
      for (let row = kernel.lines.length; row < end; row += 100) {
        kernel.add(...Array.from({ length: 100 }, (_, at) => `word ${at}`));
        give(all, kernel.rows(row, row + 100, { live: true, skips: [skipOf(kernel, row + 20, row + 100)] }));
      }
    };
    const counted = (): number =>
      itemsOf(all.query).reduce(
        (sum, item) => sum + (item.kind === 'group' ? item.count : item.kind === 'skip' ? item.lines : 0), 0
      );
    giveUntil(10_000);
    expect(counted()).toBe(10_000);
    // A slice of the reading, and then what it has read is joined with what it has not.
    all.query.setGrouped(false);
    all.scheduler.cost = 9;
    all.query.setGrouped(true);
    giveUntil(11_000);
    all.scheduler.cost = 0;
    all.scheduler.run(100);
    expect(counted()).toBe(11_000);
  });

  it('is told in few parts, even where few lines are held', () => {
    const all = page();
    const kernel = new FakeKernel();
    for (let row = 0; row < 8000; row += 2) {
      kernel.add('line', 'line');
      const sent = kernel.rows(row, row + 2, { live: true, skips: [skipOf(kernel, row + 1, row + 2)] });
      all.transport.receive(sent.message, sent.buffer);
    }
    all.scheduler.settle();
    expect(all.session.store.parts.length).toBeLessThanOrEqual(2000);
    expect(all.query.shown + all.query.notHeld).toBe(8000);
    expect(all.query.item(all.query.length - 2)).toMatchObject({ kind: 'line', row: 7998 });
  });
});

it('several ranges that were asked for stay, as far as they are not too much', () => {
  const all = page({ lines: 8000, bytes: 1 << 30 });
  const kernel = new FakeKernel();
  kernel.add(...Array.from({ length: 30_000 }, (_, row) => `line ${row}`));
  give(all, kernel.rows(0, 16_000, { live: true, skips: [skipOf(kernel, 0, 16_000)] }));
  const { store } = all.session;
  for (let range = 0; range < 4; range += 1) {
    store.keep(range * 1000, range * 1000 + 600);
    give(all, kernel.rows(range * 1000, range * 1000 + 600));
  }
  for (let row = 16_000; row < 30_000; row += 500) {
    give(all, kernel.rows(row, row + 500, { live: true }));
  }
  // A quarter of what is held may be protected: the newest three of them.
  const heldAt = (row: number): boolean => store.segmentOf(row) !== null;
  expect([0, 1000, 2000, 3000].map(heldAt)).toEqual([false, true, true, true]);
  expect(store.held).toBeLessThanOrEqual(8000);
});
