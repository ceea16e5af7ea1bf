import { describe, expect, it, vi } from 'vitest';
import type { GroupItem, GroupValues } from '../../src/core/api';
import type { SkipMessage, SlotTuple } from '../../src/core/protocol';
import { Query } from '../../src/core/query';
import { Session } from '../../src/core/session';
import { NumberTally } from '../../src/core/tallies';
import { FakeKernel, FakeTransport, HandScheduler, last, randomFrom } from './kernel';

class Page {
  readonly scheduler = new HandScheduler();
  readonly session: Session;
  readonly transport = new FakeTransport();
  readonly kernel = new FakeKernel();
  readonly query: Query;
  changes = 0;

  constructor(bounds?: { lines: number; bytes: number }) {
    this.session = new Session('s', { scheduler: this.scheduler, ...(bounds && { bounds }) });
    this.session.attach(this.transport);
    this.transport.receive({
      logmesh: 1, session: 's', n: ++this.kernel.n, type: 'state', mesh: 'running', host: 'h', atOnce: true, rows: 0, cell: 1,
      busy: false, trouble: '', mode: { stream: true, window: null, level: 20, autoflush: true }
    });
    this.query = new Query(this.session);
    this.query.setGrouped(true);
    this.query.on('changed', () => (this.changes += 1));
  }

  give(first: number, end: number, skips: SkipMessage[] = []): void {
    const { message, buffer } = this.kernel.rows(first, end, { live: true, skips });
    this.transport.receive(message, buffer);
    this.scheduler.settle();
  }

  /** The group whose text begins so. */
  group(text: string): GroupItem {
    for (let index = 0; index < this.query.length; index += 1) {
      const item = this.query.item(index);
      if (item.kind === 'group' && item.text.startsWith(text)) {
        return item;
      }
    }
    throw new Error(`no group ${text}`);
  }

  values(text: string, stored = false): GroupValues | null {
    return this.query.values(this.group(text).id, stored);
  }

  /** What they are when there is time. */
  settled(text: string): GroupValues | null {
    this.values(text);
    this.scheduler.run(20_000);
    return this.values(text);
  }

  /** Answer the last request for values. */
  answer(values: SlotTuple[], lines: number, ok = true, whole = true): Promise<void> {
    const request = last(this.transport.ofType('values'));
    this.transport.receive({
      logmesh: 1, session: 's', n: ++this.kernel.n, type: 'reply', id: request?.id, ok, values, lines, whole, ...(!ok && { error: 'no' })
    });
    return new Promise(done => setTimeout(done, 0));
  }
}

const GET = 70;
const REQUEST = [GET, GET, ['request ', ' took ', ' ms'], '*#', 20];

describe('the values of a group', () => {
  it('are the least, median and greatest numbers with ranks, and the texts with counts and ranks', () => {
    const all = new Page();
    all.kernel.templates.set(GET, REQUEST as [number, number, string[], string, number]);
    const said = [['GET', 5], ['PUT', 1], ['GET', 9], ['GET', 2.5], ['PUT', 7], ['GET', 4]] as const;
    all.kernel.add(...said.map(([verb, ms], at) => ({ text: `request ${verb} took ${ms} ms`, template: GET, source: at })));
    all.give(0, 6);
    expect(all.values('request')).toBeNull();
    expect(all.settled('request')).toEqual({
      slots: [
        { kind: '*', distinct: 2, more: false, top: [{ value: 'GET', count: 4, ranks: '0,2-3,5' }, { value: 'PUT', count: 2, ranks: '1,4' }] },
        { kind: '#', count: 6, min: 1, minRank: 1, median: 4.5, max: 9, maxRank: 2 }
      ],
      lines: 6, stored: false, whole: true, version: 1
    });
  });

  it('pass over lines that do not fit, and what is no number', () => {
    const all = new Page();
    all.kernel.templates.set(5, [5, 5, ['loss ', ''], '#', 0]);
    all.kernel.add(...['loss 2', 'lost', 'loss nan', 'loss 4'].map(text => ({ text, template: 5 })));
    all.give(0, 4);
    expect(all.settled('loss')).toMatchObject({ lines: 4, slots: [{ count: 2, min: 2, max: 4, median: 3 }] });
  });

  it('are not known where no line fits what was told of the template, and that is looked at once', () => {
    const all = new Page();
    const long = 'x'.repeat(600);
    const told = `${long.slice(0, 500)}\u2026`;
    all.kernel.templates.set(5, [5, 5, [told, ' at ', ''], '*#', 20]);
    all.kernel.add(...[1, 2, 3].map(at => ({ text: `${long} on host${at} at ${at}`, template: 5 })));
    all.give(0, 3);
    expect(all.settled('xxx')).toMatchObject({ lines: 3, slots: [null, null] });
    expect(all.group('xxx')).toMatchObject({ text: `${told}<*> at <#>`, count: 3, level: 20 });
    const { changes } = all;
    const greetings = all.transport.ofType('hello').length;
    all.values('xxx', true);
    all.scheduler.run(60_000);
    expect([all.changes, all.transport.ofType('hello').length]).toEqual([changes, greetings]);
    expect(all.transport.ofType('values')).toEqual([]);
  });

  it('are none of lines that are all the same, of others, of tracebacks and of unknown templates', () => {
    const all = new Page();
    all.kernel.add('same 1', 'same 1', { text: 'x', template: 0 }, { text: 'y', template: 0 }, { text: 'u 1', template: 99 }, { text: 'u 2', template: 99 });
    all.give(0, 6);
    for (const text of ['same', 'x', 'u']) {
      expect(all.settled(text)).toBeNull();
    }
    expect(all.query.values('gw-1 block x', true)).toBeNull();
    expect(all.query.values('nonsense', true)).toBeNull();
    all.query.setGrouped(false);
    expect(all.query.values('gw-1 1 1 0 ', false)).toBeNull();
  });

  it('follow new lines at most once a second, and read only these', () => {
    const all = new Page();
    all.kernel.add(...Array.from({ length: 100 }, (_, at) => `step ${at}`));
    all.give(0, 100);
    expect(all.settled('step')).toMatchObject({ lines: 100, slots: [{ max: 99 }] });
    const versions = new Set<number>();
    for (let tenth = 0; tenth < 50; tenth += 1) {
      all.kernel.add(`step ${1000 + tenth}`);
      all.give(100 + tenth, 101 + tenth);
      versions.add(all.values('step')?.version ?? -1);
      all.scheduler.run(100);
    }
    expect(versions.size).toBeGreaterThanOrEqual(5);
    expect(versions.size).toBeLessThanOrEqual(6);
    expect(all.settled('step')).toMatchObject({ lines: 150, slots: [{ count: 150, min: 0, max: 1049 }] });
  });

  it('are those of the lines that pass the filter', () => {
    const all = new Page();
    all.kernel.add(...Array.from({ length: 40 }, (_, at) => ({ text: `step ${at}`, source: at % 4 })));
    all.give(0, 40);
    all.settled('step');
    all.query.setFilter({ ranks: new Set([2]) });
    expect(all.values('step')).toBeNull();
    expect(all.settled('step')).toMatchObject({ lines: 10, slots: [{ min: 2, max: 38, median: 20, minRank: 2 }] });
  });

  it('are those of one window, where there are windows', () => {
    const all = new Page();
    all.transport.receive({
      ...all.session.state, n: ++all.kernel.n, mode: { stream: true, window: 3, level: 20, autoflush: true }
    });
    all.kernel.add(...Array.from({ length: 40 }, (_, at) => ({ text: `step ${at}`, wall: 1000 + at / 10 })));
    all.give(0, 40);
    const groups = [1, 3].map(index => all.query.item(index));
    groups.forEach(({ id }) => all.query.values(id, false));
    all.scheduler.run(2000);
    expect(groups.map(({ id }) => all.query.values(id, false))).toMatchObject([
      { lines: 30, slots: [{ min: 0, max: 29 }] }, { lines: 10, slots: [{ min: 30, max: 39 }] }
    ]);
  });

  it('count lines that came late, or that were joined to it, once each', () => {
    const all = new Page();
    const { kernel } = all;
    kernel.add(...Array.from({ length: 60 }, (_, at) => (at % 3 ? `step ${at}` : `lap ${at}`)));
    const rows = kernel.rows(0, 20);
    all.give(20, 60);
    all.settled('step');
    all.transport.receive(rows.message, rows.buffer);
    all.scheduler.run(50);
    expect(all.settled('step')).toMatchObject({ lines: 40, slots: [{ count: 40, min: 1 }] });
    kernel.templates.set(9, [9, 9, ['', ' ', ''], '*#', 0]);
    kernel.merge(kernel.like('lap 1'), 9);
    kernel.merge(kernel.like('step 1'), 9);
    all.transport.receive(kernel.telling(9, kernel.like('lap 1'), kernel.like('step 1')));
    all.scheduler.run(20);
    expect(all.settled('<*> <#>')).toMatchObject({
      lines: 60, slots: [{ top: [{ value: 'step', count: 40 }, { value: 'lap', count: 20 }] }, { count: 60, min: 0, max: 59 }]
    });
    // A template that stays, and takes in another one.
    kernel.templates.set(10, [10, 10, ['late ', ''], '#', 0]);
    kernel.add({ text: 'late 1000', template: 10 });
    all.give(60, 61);
    kernel.merge(10, 9);
    all.transport.receive(kernel.telling(10));
    all.scheduler.run(20);
    expect(all.settled('<*> <#>')).toMatchObject({ lines: 61, slots: [{ distinct: 3 }, { max: 1000 }] });
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 8])('are what a plain loop finds, however the lines come (seed %i)', seed => {
    const random = randomFrom(seed);
    const pick = (most: number): number => Math.floor(random() * most);
    const all = new Page();
    all.kernel.add(...Array.from({ length: 3000 }, () => ({
      text: `${['step', 'lap'][pick(2)] as string} ${pick(500)} loss ${(random() * 9).toFixed(3)}`, source: pick(8)
    })));
    const ranges = Array.from({ length: 30 }, (_, at) => [at * 100, at * 100 + 100] as const);
    for (let at = 0; at < 10; at += 1) {
      const [one, other] = [pick(30), pick(30)];
      [ranges[one], ranges[other]] = [ranges[other]!, ranges[one]!];
    }
    for (const [first, end] of ranges) {
      const { message, buffer } = all.kernel.rows(first, end);
      all.transport.receive(message, buffer);
      all.scheduler.settle();
      if (all.query.length > 2) {
        all.values('step');
      }
      all.scheduler.run(pick(2) * 700);
    }
    for (const name of ['step', 'lap']) {
      const lines = all.kernel.lines.filter(({ text }) => text.startsWith(name));
      const losses = lines.map(({ text }) => Number(text.split(' ')[3])).sort((one, other) => one - other);
      const low = losses[(losses.length - 1) >> 1] as number;
      const high = losses[losses.length >> 1] as number;
      const values = all.settled(name);
      expect(values?.lines).toBe(lines.length);
      expect(values?.slots[1]).toMatchObject({ count: lines.length, min: losses[0], max: last(losses), median: low / 2 + high / 2 });
      const least = lines.filter(({ text }) => Number(text.split(' ')[3]) === losses[0]).map(({ source }) => source);
      expect(least).toContain((values?.slots[1] as { minRank: number }).minRank);
    }
  });

  it('are computed for who looks, and no more when nobody does', () => {
    const all = new Page();
    all.kernel.add('step 1', 'step 2', 'lap 1', 'lap 2');
    all.give(0, 4);
    all.scheduler.run(3000);
    const { changes } = all;
    const id = all.group('step').id;
    all.query.values(id, false);
    all.query.dropValues(id);
    all.scheduler.run(3000);
    expect(all.changes).toBe(changes);
    expect(all.values('step')).toBeNull();
    expect(all.changes).toBe(changes);
    all.kernel.add(...Array.from({ length: 5000 }, (_, at) => `step ${at}`));
    all.give(4, 5004);
    all.values('step');
    all.scheduler.cost = 1; // a long reading
    const tasks = vi.spyOn(all.scheduler, 'later');
    all.query.dispose();
    all.scheduler.run(3000);
    expect(tasks.mock.calls.filter(([, milliseconds]) => milliseconds < 1000)).toEqual([]);
  });
});

describe('of a huge group', () => {
  it('values are read in slices of a few milliseconds, with pauses between', () => {
    const all = new Page();
    const lines = 200_000;
    for (let at = 0; at < lines; at += 1) {
      all.kernel.add({ text: `step ${at} loss ${(at * 7919) % 1000} of run ${at % 17}`, wall: 1 });
    }
    for (let first = 0; first < lines; first += 10_000) {
      all.give(first, first + 10_000);
    }
    all.scheduler.run(100);
    // A look at the clock stands for the work since the last one.
    const tasks: number[] = [];
    const pauses = new Set<number>();
    const later = all.scheduler.later.bind(all.scheduler);
    all.scheduler.later = (work, milliseconds) => {
      pauses.add(milliseconds);
      return later(() => {
        all.scheduler.cost = 0.25;
        const start = all.scheduler.time;
        work();
        tasks.push(all.scheduler.time - start);
        all.scheduler.cost = 0;
      }, milliseconds);
    };
    expect(all.settled('step')).toMatchObject({
      lines, slots: [{ min: 0, max: lines - 1, median: (lines - 1) / 2 }, { median: 499.5 }, { median: 8 }]
    });
    expect(Math.max(...tasks)).toBeLessThanOrEqual(4);
    expect(Math.min(...pauses)).toBeGreaterThanOrEqual(12);
    // A hundred lines or so for each look.
    expect(tasks.reduce((sum, time) => sum + time, 0) / 0.25).toBeGreaterThan(lines / 150);
  });

  it('values are read in such slices too where most of the rows are of others', () => {
    const all = new Page();
    const length = 200_000;
    for (let first = 0; first < length; first += 4000) {
      const about = (at: number): string => ([0, length - 1].includes(at) ? 'rare' : 'step');
      all.kernel.add(...Array.from({ length: 4000 }, (_, at) => ({ text: `${about(first + at)} ${first + at}`, wall: 1 })));
      all.give(first, first + 4000);
    }
    all.scheduler.run(100);
    // To read a segment takes a third of a millisecond.
    const { store } = all.session;
    const indexOf = store.indexOf.bind(store);
    vi.spyOn(store, 'indexOf').mockImplementation(row => {
      all.scheduler.time += 1 / 3;
      return indexOf(row);
    });
    const tasks: number[] = [];
    const later = all.scheduler.later.bind(all.scheduler);
    all.scheduler.later = (work, milliseconds) => later(() => {
      const start = all.scheduler.time;
      work();
      tasks.push(all.scheduler.time - start);
    }, milliseconds);
    all.values('rare');
    all.scheduler.run(900);
    expect(all.values('rare')).toMatchObject({ lines: 2, slots: [{ min: 0, max: length - 1 }] });
expect(tasks.length).toBeGreaterThanOrEqual(4);
    expect(Math.max(...tasks)).toBeLessThan(6);
  });

  it('values of many slots take bounded memory together', () => {
    const all = new Page();
    const lines = 60_000;
    const text = (add: number): string => Array.from({ length: 40 }, (_, at) => `n ${(add * 7919 + at) % lines}`).join(' ');
    for (let first = 0; first < lines; first += 1000) {
      all.kernel.add(...Array.from({ length: 1000 }, (_, at) => ({ text: text(first + at), wall: 1 })));
      all.give(first, first + 1000);
    }
    const results = vi.spyOn(NumberTally.prototype, 'result');
    const { slots } = all.settled('n ') as GroupValues;
    const tallies = [...new Set(results.mock.contexts as NumberTally[])];
    expect(tallies).toHaveLength(40);
    expect(tallies.reduce((sum, { room }) => sum + room, 0)).toBeLessThanOrEqual(2 ** 21);
    for (const slot of slots) {
      expect(slot).toMatchObject({ count: lines, min: 0, max: lines - 1 });
      expect(Math.abs((slot as { median: number }).median / lines - 0.5)).toBeLessThan(0.002);
    }
  });

  it('values are also made in slices, where there are many slots', () => {
    const all = new Page();
    const text = (add: number): string => Array.from({ length: 60 }, (_, at) => `n ${at + add}`).join(' ');
    all.kernel.add(text(0), text(1));
    all.give(0, 2);
    all.values('n ');
    all.scheduler.cost = 0.25;
    const tasks = vi.spyOn(all.scheduler, 'later');
    all.scheduler.run(1000);
    expect(tasks.mock.calls.length).toBeGreaterThanOrEqual(3);
    all.scheduler.cost = 0;
    const slots = all.values('n ')?.slots ?? [];
    expect(slots).toHaveLength(40); // more are not looked at
    expect(slots[39]).toMatchObject({ min: 39, max: 40, median: 39.5 });
  });

  it('values of lines that have left stay for a while, and are forgotten before they are many', () => {
    const all = new Page({ lines: 2000, bytes: 1 << 30 });
    const counts: number[] = [];
    for (let first = 0; first < 60_000; first += 500) {
      all.kernel.add(...Array.from({ length: 500 }, (_, at) => `step ${first + at}`));
      all.give(first, first + 500);
      counts.push(all.values('step')?.lines ?? 0);
      all.scheduler.run(400);
    }
    const { count, held } = all.group('step');
    expect([count, held]).toEqual([60_000, all.session.store.held]);
    expect(Math.max(...counts)).toBeGreaterThan(5 * held);
    expect(Math.max(...counts)).toBeLessThanOrEqual(22_000);
    expect(all.settled('step')).toMatchObject({ stored: false, slots: [{ max: 59_999 }] });
    expect((all.settled('step')?.slots[0] as { min: number }).min).toBeGreaterThan(1000);
  });
});

describe('where the page does not hold all lines', () => {
  const skip: SkipMessage = {
    first: 0, end: 900, cells: [[1, 900, 0, 900]], wall: [900, 1000], others: 0, groups: [[1, '', 1, 'step 5', 900, '0-3', 1, 1]]
  };
  const STORED: SlotTuple[] = [['#', 1000, -5, 3, 499.5, 2000, 2]];

  function skipped(): Page {
    const all = new Page();
    all.kernel.add(...Array.from({ length: 1000 }, (_, at) => `step ${at}`));
    all.give(0, 1000, [skip]);
    all.settled('step');
    return all;
  }

  it('the kernel is asked, once; its answer is shown when it comes', async () => {
    const all = skipped();
    expect(all.transport.ofType('values')).toEqual([]);
    expect(all.values('step', true)).toMatchObject({ lines: 100, stored: false });
    all.scheduler.run(100);
    expect(all.transport.ofType('values')).toMatchObject([
      { template: 1, target: 1, job: '', cell: null, first: 0, end: 1000 }
    ]);
    const { changes } = all;
    await all.answer(STORED, 1000);
    expect(all.changes).toBe(changes + 1);
    expect(all.values('step', true)).toEqual({
      slots: [{ kind: '#', count: 1000, min: -5, minRank: 3, median: 499.5, max: 2000, maxRank: 2 }],
      lines: 1000, stored: true, whole: true, version: 2
    });
    all.scheduler.run(60_000);
    expect(all.transport.ofType('values')).toHaveLength(1);
    // Asked again when there are more lines, but not at once.
    all.kernel.add('step 1000');
    all.give(1000, 1001);
    all.values('step', true);
    all.scheduler.run(100);
    expect(last(all.transport.ofType('values'))).toMatchObject({ end: 1001 });
    expect(all.transport.ofType('values')).toHaveLength(2);
    await all.answer([], 0, false);
    expect(all.values('step', true)).toMatchObject({ lines: 1000, stored: true });
    all.kernel.add('step 1001');
    all.give(1001, 1002);
    all.values('step', true);
    all.scheduler.run(5000);
    expect(all.transport.ofType('values')).toHaveLength(2);
    all.scheduler.run(6000);
    expect(all.transport.ofType('values')).toHaveLength(3);
  });

  it('extremes that this page knows are shown, where the kernel had no time for all lines', async () => {
    const all = skipped();
    all.values('step', true);
    all.scheduler.run(100);
    await all.answer([['#', 500, 300, 3, 400, 950, 2]], 500, true, false);
    expect(all.values('step')?.slots).toMatchObject([{ min: 900, max: 999 }]);
    expect(all.values('step', true)).toMatchObject({
      slots: [{ count: 500, min: 300, minRank: 3, median: 400, max: 999, maxRank: 0 }], lines: 500, stored: true, whole: false
    });
    const before = all.values('step', true)?.version ?? 0;
    all.kernel.add({ text: 'step 2', source: 5 });
    all.give(1000, 1001);
    all.values('step', true);
    all.scheduler.run(2000);
    expect(all.values('step', true)).toMatchObject({ slots: [{ min: 2, minRank: 5 }] });
    expect(all.values('step', true)?.version).toBeGreaterThan(before);
  });

  it.each([[9_999, false], [10_000, true]])('%i different texts in its answer: that there may be more is %s', async (distinct, more) => {
    const all = new Page();
    all.kernel.templates.set(GET, REQUEST as [number, number, string[], string, number]);
    all.kernel.add(...['GET', 'PUT'].map(verb => ({ text: `request ${verb} took 5 ms`, template: GET })));
    all.give(0, 2, [{ ...skip, end: 1, cells: [[1, 1, 0, 1]], groups: [[1, '', 1, 'request x took 1 ms', 20_000, '0', 1, GET]] }]);
    all.values('request', true);
    all.scheduler.run(100);
    await all.answer([['*', distinct, [['GET', 3, '0']]], ['#', 0, 0, -1, 0, 0, -1]], 20_000);
    expect(all.values('request', true)?.slots).toEqual([{ kind: '*', distinct, more, top: [{ value: 'GET', count: 3, ranks: '0' }] }, null]);
    all.kernel.add({ text: 'request GET took 6 ms', template: GET });
    all.give(2, 3);
    all.values('request', true);
    all.scheduler.run(11_000);
    await all.answer([['*', 0, []], ['#', 0, 0, -1, 0, 0, -1]], 20_001);
    expect(all.values('request', true)).toMatchObject({ lines: 20_001, slots: [null, null] });
  });

  it('an error, an answer about other slots and no answer leave what is there', async () => {
    const all = skipped();
    for (const reply of [
      (): Promise<void> => all.answer([], 0, false),
      (): Promise<void> => all.answer([['*', 1, [['x', 1, '0']]]], 1000),
      (): Promise<void> => all.answer([...STORED, ...STORED], 1000)
    ]) {
      all.values('step', true);
      all.scheduler.run(20_000);
      await reply();
      expect(all.values('step', true)).toMatchObject({ lines: expect.any(Number) as number, stored: false });
      all.kernel.add('step 0');
      all.give(all.kernel.lines.length - 1, all.kernel.lines.length);
    }
    all.transport.dispose();
    all.values('step', true);
    all.scheduler.run(20_000);
    await Promise.resolve();
    expect(all.values('step', true)).toMatchObject({ stored: false });
  });

  it('the kernel is not asked with a filter that it does not know of', () => {
    const all = skipped();
    for (const filter of [{ ranks: new Set([0]) }, { text: 'step' }, { time: [0, 1e9] as const }, { hosts: new Set(['host0']) }]) {
      all.query.setFilter({ ranks: null, text: '', time: null, hosts: null, ...filter });
      all.scheduler.run(50);
      all.values('step', true);
      all.scheduler.run(20_000);
    }
    expect(all.transport.ofType('values')).toEqual([]);
  });
});
