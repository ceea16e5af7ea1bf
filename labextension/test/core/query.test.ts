import { describe, expect, it } from 'vitest';
import type { Filter, Found, GroupItem, Item } from '../../src/core/api';
import { levelOf, levelSlot } from '../../src/core/levels';
import type { SkipMessage } from '../../src/core/protocol';
import { EVERYTHING, Query } from '../../src/core/query';
import { Session } from '../../src/core/session';
import { FakeKernel, FakeTransport, HandScheduler, last, randomFrom, sourceOf } from './kernel';
import type { Line } from './kernel';

const WORDS = ['step 1', 'step 22', 'ERROR: x 1', 'ERROR: x 2', 'DEBUG: d', 'WARNING: w', 'Error(', 'a.b', '\x1b[31mred\x1b[0m step 3'];

/** The template of a text, as the fake kernel has it. */
function templateOf(text: string): string {
  return text.replace(/\d+(?:\.\d+)*/g, '<#>');
}

type Full = FakeKernel['lines'][number];

interface Page {
  session: Session; query: Query; scheduler: HandScheduler; transport: FakeTransport; kernel: FakeKernel;
  give(first: number, end: number, skips?: SkipMessage[]): void;
}

function page(window: number | null = null): Page {
  const scheduler = new HandScheduler();
  const session = new Session('s', { scheduler });
  const transport = new FakeTransport();
  session.attach(transport);
  const kernel = new FakeKernel();
  transport.receive({
    logmesh: 1, session: 's', n: ++kernel.n, type: 'state', mesh: 'running', host: 'h', atOnce: true,
    rows: 0, cell: 1, busy: false, trouble: '', mode: { stream: true, window, level: 20, autoflush: true }
  });
  const query = new Query(session);
  return {
    session, query, scheduler, transport, kernel,
    give(first, end, skips = []) {
      const { message, buffer } = kernel.rows(first, end, { live: true, skips });
      transport.receive(message, buffer);
      scheduler.settle();
    }
  };
}

function randomLines(random: () => number, count: number): Line[] {
  const pick = (most: number): number => Math.floor(random() * most);
  return Array.from({ length: count }, (_, row) => ({
    text: `${WORDS[pick(WORDS.length)]}`,
    source: [0, 1, 9][pick(3)] as number,
    target: 1 + pick(2),
    cell: 1 + pick(2),
    wall: 1000 + row / 4
  }));
}

function randomFilter(random: () => number): Partial<Filter> {
  const pick = <Value>(...values: Value[]): Value => values[Math.floor(random() * values.length)] as Value;
  return {
    cell: pick(null, null, 1, 2),
    minLevel: pick(0, 0, 10, 20, 30, 40),
    ranks: pick(null, null, new Set([0]), new Set([1])),
    targets: pick(3, 3, 1, 2),
    hosts: pick(null, null, new Set(['host1'])),
    time: pick(null, null, [1002, 1010] as const),
    ...pick(
      { text: '' }, { text: '' }, { text: 'error' }, { text: 'ERROR', matchCase: true },
      { text: 'a.b' }, { text: '^step \\d+$', regex: true }, { text: 'Error(' }, { text: 'red s' }
    )
  };
}

/** What the filter means, said once more in the plainest way. */
function passes(line: Full, filter: Filter): boolean {
  const [, rank, , host] = sourceOf(line.source);
  const text = line.text.replaceAll('\x1b[31m', '').replaceAll('\x1b[0m', '');
  return (
    (filter.cell === null || line.cell === filter.cell) &&
    (levelOf(line.text) || 20) >= filter.minLevel &&
    (filter.ranks === null || filter.ranks.has(rank)) &&
    (filter.targets & line.target) !== 0 &&
    (filter.hosts === null || filter.hosts.has(host)) &&
    (filter.time === null || (line.wall >= filter.time[0] && line.wall <= filter.time[1])) &&
    (filter.regex
      ? new RegExp(filter.text, filter.matchCase ? '' : 'i').test(text)
      : filter.matchCase
        ? text.includes(filter.text)
        : text.toLowerCase().includes(filter.text.toLowerCase()))
  );
}

/** Groups in the plainest way: `[text, count, ranks]` by windows and cells. */
function groupsOf(lines: readonly Full[], filter: Filter, window: number | null): unknown[] {
  interface One { key: string; lines: Full[] }
  const windows: { cell: number; opened: number; groups: One[] }[] = [];
  const current = new Map<number, (typeof windows)[number]>();
  for (const line of lines.filter(each => passes(each, filter))) {
    const scope = window === null && filter.cell === null ? -1 : line.cell;
    let open = current.get(scope);
    if (open === undefined || (window !== null && line.wall >= open.opened + window)) {
      open = { cell: line.cell, opened: line.wall, groups: [] };
      current.set(scope, open);
      windows.push(open);
    }
    const key = `${templateOf(line.text)} ${line.target} ${sourceOf(line.source)[2]}`;
    const group = open.groups.find(each => each.key === key);
    if (group === undefined) {
      open.groups.push({ key, lines: [line] });
    } else {
      group.lines.push(line);
    }
  }
  return windows.flatMap(({ groups }) => [
    ...(window === null ? [] : ['window']),
    ...groups.map(({ lines: own }) => {
      const texts = new Set(own.map(line => line.text));
      return [
        texts.size === 1 ? own[0]?.text : templateOf(own[0]?.text ?? ''),
        own.length,
        [...new Set(own.map(line => sourceOf(line.source)[1]))].sort()
      ];
    })
  ]);
}

function itemsOf(query: Query): Item[] {
  return Array.from({ length: query.length }, (_, index) => query.item(index));
}

const seeds = Array.from({ length: 80 }, (_, at) => 400 + at);

describe('a query', () => {
  it.each(seeds)('gives what a plain loop gives (seed %i)', seed => {
    const random = randomFrom(seed);
    const all = page();
    all.kernel.add(...randomLines(random, 120));
    for (let first = 0; first < 120; first += 10) {
      all.give(first, first + 10);
      if (random() < 0.3) {
        all.query.setFilter({ ...EVERYTHING, ...randomFilter(random) });
      }
    }
    all.scheduler.run(100);
    const { filter } = all.query;
    const expected = all.kernel.lines.filter(line => passes(line, filter));
    expect(itemsOf(all.query).map(item => 'row' in item && item.row)).toEqual(
      expected.map(line => line.row)
    );
    const ofCell = all.kernel.lines.filter(({ cell }) => filter.cell === null || cell === filter.cell);
    expect(all.query.shown).toBe(expected.length);
    expect(all.query.hidden).toBe(ofCell.length - expected.length);
    const levels = [0, 0, 0, 0, 0, 0];
    for (const { text } of ofCell) {
      levels[levelSlot(levelOf(text))]! += 1;
    }
    expect(all.query.levels).toEqual(levels);
    const untimed = all.kernel.lines.filter(line => passes(line, { ...filter, time: null }));
    const { bins } = all.query.histogram(30);
    expect(bins.length).toBeLessThanOrEqual(30);
    expect(bins.flatMap(bin => [...bin.counts]).reduce((sum, count) => sum + count, 0)).toBe(untimed.length);
    const errors = expected.map(line => levelOf(line.text) >= 40);
    for (let index = -1; index <= expected.length; index += 1) {
      expect(all.query.nextError(index, 1)).toBe(errors.indexOf(true, index + 1));
      expect(all.query.nextError(index, -1)).toBe(index <= 0 ? -1 : errors.lastIndexOf(true, index - 1));
    }
  });

  it.each(seeds)('groups as a plain loop does (seed %i)', async seed => {
    const random = randomFrom(seed);
    const window = [null, 3, 10][seed % 3] ?? null;
    const all = page(window);
    all.kernel.add(...randomLines(random, 120));
    all.query.setGrouped(true);
    all.query.setFilter(randomFilter(random));
    for (let first = 0; first < 120; first += 12) {
      all.give(first, first + 12);
      all.scheduler.run(5);
    }
    all.scheduler.run(100);
    const { filter } = all.query;
    const items = itemsOf(all.query);
    expect(items.map(item => (item.kind === 'group' ? [item.text, item.count, item.ranks] : item.kind)))
      .toEqual(groupsOf(all.kernel.lines, filter, window));
    for (const [index, item] of items.entries()) {
      expect(all.query.indexOf((item as GroupItem).id)).toBe(index);
      if (item.kind === 'group') {
        const lines = all.query.groupLines(item.id, null, 1000);
        expect(lines).toHaveLength(item.count);
        expect(new Set(lines.map(line => templateOf(line.text))).size).toBe(1);
        expect(item.held).toBe(item.count);
      }
    }
    const text = await all.query.export('text').text();
    expect(text.split('\n').length - 1).toBe(all.query.shown);
  });

  it('tells what was added at the end, and else that it has changed', () => {
    const all = page();
    const told: (number | string)[] = [];
    all.query.on('grown', lines => told.push(lines));
    all.query.on('changed', () => told.push('changed'));
    all.kernel.add(...Array.from({ length: 9 }, (_, row) => `line ${row}`));
    all.give(2, 4);
    all.give(4, 7);
    expect(told).toEqual([2, 3]);
    const { message, buffer } = all.kernel.rows(0, 2);
    all.transport.receive(message, buffer);
    const more = all.kernel.rows(7, 9, { live: true });
    all.transport.receive(more.message, more.buffer);
    all.scheduler.settle();
    expect(told).toEqual([2, 3, 'changed']);
    all.query.setFilter({ minLevel: 30 });
    expect(told).toEqual([2, 3, 'changed', 'changed']);
    all.query.dispose();
    all.kernel.add('late');
    all.give(9, 10);
    expect(told).toHaveLength(4);
  });

  it('says why an expression is none, and hides nothing then', () => {
    const all = page();
    all.kernel.add('a', 'b');
    all.give(0, 2);
    all.query.setFilter({ text: '(', regex: true });
    expect(all.query.problem).not.toBe('');
    expect(all.query.length).toBe(2);
    all.query.setFilter({ text: '(a' });
    all.query.setFilter({ text: 'a' });
    expect([all.query.problem, all.query.length]).toEqual(['', 1]);
  });

  it('looks at text in slices, the newest first', () => {
    const all = page();
    all.kernel.add(...Array.from({ length: 50_000 }, (_, row) => `line ${row % 5000}`));
    for (let first = 0; first < 50_000; first += 5000) {
      all.give(first, first + 5000);
    }
    all.scheduler.cost = 5;
    all.query.setFilter({ text: 'line 4999' });
    expect(all.query.working).toBe(true);
    expect(all.query.length).toBeLessThan(10);
    expect(all.query.item(all.query.length - 1)).toMatchObject({ row: 49_999 });
    all.scheduler.cost = 0;
    all.scheduler.run(500);
    expect(all.query.working).toBe(false);
    expect(all.query.length).toBe(10);
  });

  it('finds, goes on finding, and stops', () => {
    const all = page();
    all.kernel.add('one', 'two', 'one more', 'three');
    all.give(0, 3);
    const results: Found[] = [];
    const stop = all.query.find('ONE', { regex: false, matchCase: false }, found => results.push(found));
    all.scheduler.run(20);
    expect(last(results)).toEqual({ ids: ['r0', 'r2'], done: true, problem: '' });
    all.kernel.add('none');
    all.give(3, 5);
    all.scheduler.run(20);
    expect(last(results)?.ids).toEqual(['r0', 'r2', 'r4']);
    stop();
    const count = results.length;
    all.kernel.add('one');
    all.give(5, 6);
    all.scheduler.run(20);
    expect(results).toHaveLength(count);
    all.query.find('(', { regex: true, matchCase: false }, found => results.push(found));
    all.scheduler.run(20);
    expect(last(results)?.problem).not.toBe('');
  });

  it('shows unfinished lines behind all others', () => {
    const all = page();
    all.kernel.add('a');
    all.give(0, 1);
    all.transport.receive({
      logmesh: 1, session: 's', n: ++all.kernel.n, type: 'live', more: 0,
      lines: [[0, 1, 1, 2, '10%'], [0, 2, 2, 2, 'ERROR: x']]
    });
    all.scheduler.settle();
    expect(itemsOf(all.query)).toMatchObject([
      { id: 'r0' }, { id: 'v0.1', text: '10%' }, { id: 'v0.2', level: 40 }
    ]);
    expect(all.query.nextError(0, 1)).toBe(2);
    expect(all.query.indexOf('v0.2')).toBe(2);
    all.query.setFilter({ cell: 1 });
    expect(itemsOf(all.query)).toHaveLength(2);
  });

  it('counts skipped lines in groups, and shows those that no group counts', () => {
    const all = page();
    all.kernel.add(...Array.from({ length: 20 }, (_, row) => `step ${row}`));
    const skip: SkipMessage = {
      first: 5, end: 15, cells: [[1, 10, 5, 15]], wall: [1000, 1001], others: 3,
      groups: [
        [1, '', 1, 'step 5', 6, '0-2', 1, all.kernel.like('step 5')],
        [2, '', 1, 'ERROR: no', 1, '4', 0, all.kernel.like('ERROR: no')]
      ]
    };
    all.give(0, 20, [skip]);
    expect(all.query.item(5)).toMatchObject({ kind: 'skip', lines: 10, errors: 1, others: 3 });
    expect(all.session.errors).toBe(1);
    expect(all.query.nextError(0, 1)).toBe(5);
    all.query.setGrouped(true);
    expect(itemsOf(all.query)).toMatchObject([
      { kind: 'group', count: 16, held: 10, ranks: [0, 1, 2] },
      { kind: 'group', count: 1, held: 0, level: 40, text: 'ERROR: no', differs: false },
      { kind: 'skip', lines: 3, groups: [] }
    ]);
    all.query.setFilter({ cell: 2 });
    expect(all.query.length).toBe(0);
  });

  it('spreads skipped lines over the time in which they were said', () => {
    const all = page();
    all.kernel.add(...Array.from({ length: 20 }, (_, row) => ({ text: `step ${row}`, wall: 1000 + row })));
    const skip: SkipMessage = {
      first: 5, end: 15, cells: [[1, 10, 5, 15]], wall: [1005, 1014], others: 3,
      groups: [
        [1, '', 1, 'step 5', 3, '0', 1, all.kernel.like('step 5')],
        [2, '', 1, 'ERROR: no', 4, '4', 0, all.kernel.like('ERROR: no')]
      ]
    };
    all.give(0, 20, [skip]);
    const { step, bins } = all.query.histogram(20);
    expect(step).toBe(1);
    const sums = bins.map(({ counts }) => counts.reduce((sum, count) => sum + count, 0));
    expect(sums).toHaveLength(20);
    expect(sums.reduce((sum, count) => sum + count, 0)).toBe(20);
    expect(Math.max(...sums)).toBeLessThanOrEqual(2);
    expect(bins.reduce((sum, { counts }) => sum + counts[4], 0)).toBe(4);
    const total = (change: Partial<Filter>): number => {
      all.query.setFilter(change);
      all.scheduler.run(20);
      return all.query.histogram(20).bins.flatMap(bin => [...bin.counts]).reduce((sum, count) => sum + count, 0);
    };
    expect(total({ minLevel: 40 })).toBe(4);
    expect(total({ minLevel: 0, cell: 2 })).toBe(0);
    // Whether they would pass these is not known.
    expect(total({ cell: null, ranks: new Set([0]) })).toBe(10);
  });

  it('exports text that is inert, with who says it', async () => {
    const all = page();
    all.kernel.add(
      { text: '\x1b]0;title\x07\x1b[31mred\x1b[0m\x1b[2J \u202eevil', source: 3, target: 2, wall: 0 },
      { text: 'plain', source: 9, target: 2, wall: 0 },
      { text: 'plain', source: 1, wall: 0 }
    );
    all.give(0, 3);
    const time = '1970-01-01T00:00:00.000Z';
    expect(await all.query.export('text').text()).toBe(
      `${time} [3 err] \u241b]0;title\u2407red\u241b[2J \\u202eevil\n` +
        `${time} [1 job 1 err] plain\n${time} [1] plain\n`
    );
  });

  it('exports JSON lines with what is known of each', async () => {
    const all = page();
    all.kernel.add({ text: 'ERROR: "x"', source: 9, target: 2, wall: 1.5 });
    all.give(0, 1);
    expect(JSON.parse(await all.query.export('jsonl').text())).toEqual({
      time: '1970-01-01T00:00:01.500Z', host: 'host1', rank: 1, job: 'job 1', pid: 1009,
      stream: 'stderr', level: 'ERROR', text: 'ERROR: "x"', seq: 0
    });
  });
});
