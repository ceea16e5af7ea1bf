import { describe, expect, it, vi } from 'vitest';
import { GroupedList } from '../../src/core/grouped';
import type { TemplateTuple } from '../../src/core/protocol';
import { Query } from '../../src/core/query';
import { sourceOf } from './kernel';
import { GroupedPage } from './page';

describe('groups', () => {
  it('are made again when it is told late who says their lines', () => {
    const all = new GroupedPage();
    all.kernel.add({ text: 'step 1', source: 9 }, { text: 'step 2', source: 9 }, { text: 'step 3', source: 9 });
    const { message, buffer } = all.kernel.rows(0, 2, { live: true });
    all.transport.receive({ ...message, sources: [] }, buffer);
    all.scheduler.run(20);
    expect(all.groups).toMatchObject([{ job: '', ranks: [-1], count: 2 }]);
    const [id, rank, job, host, pid] = sourceOf(9);
    all.transport.receive({
      logmesh: 1, session: 's', n: ++all.kernel.n, type: 'procs', full: true, now: 0,
      procs: [[id, rank, job, host, pid, 'running', null, 2, 0, 0, 0]]
    });
    all.give(2, 3);
    expect(all.groups).toMatchObject([{ job: 'job 1', ranks: [1], count: 3, held: 3 }]);
    expect(all.query.groupLines(all.groups[0]!.id, null, 10)).toHaveLength(3);
  });

  it('are not made again for sources that are only told of', () => {
    const all = new GroupedPage();
    all.kernel.add(...Array.from({ length: 64 }, (_, source) => ({ text: 'step 1', source })));
    const again = vi.spyOn(GroupedList.prototype, 'reset');
    for (let row = 0; row < 64; row += 1) {
      all.give(row, row + 1);
    }
    expect(all.groups.map(({ count }) => count)).toEqual([8, 56]);
    expect(again).not.toHaveBeenCalled();
  });

  it('know which of their lines are held, also where others of their template are redrawn or in a block', () => {
    const all = new GroupedPage({ bounds: { lines: 8200, bytes: 1 << 30 } });
    const { kernel } = all;
    const laps = Array.from({ length: 6000 }, (_, at) => `lap ${at}`);
    const some = Array.from({ length: 50 }, (_, at) => `bar ${at}`);
    kernel.add(...some, 'Traceback (most recent call last):', '  File "x.py", line 1, in f', '    f()', 'ValueError: 1');
    kernel.add(...some, 'bar 900', '\x1b[Abar 901', ...laps, ...some, ...laps);
    for (const line of kernel.lines.filter(({ text }) => !text.startsWith('lap'))) {
      line.template = kernel.like('bar 1');
    }
    const { length } = kernel.lines;
    for (let row = 0; row < length; row += 500) {
      all.give(row, Math.min(length, row + 500));
    }
    const held = kernel.lines.filter(({ row, text }) => text.startsWith('bar') && all.session.store.segmentOf(row) !== null);
    expect(held).toHaveLength(50);
    const bars = all.groups.filter(({ text }) => text.startsWith('bar'));
    expect(bars.find(({ text }) => text === 'bar 901')).toMatchObject({ count: 1, held: 0 });
    expect(bars.reduce((sum, group) => sum + group.held, 0)).toBe(50);
    expect(bars.find(({ text }) => text === 'bar <#>')?.held).toBe(50);
  });

  it('open to as many lines as are asked for, wherever these end', () => {
    const all = new GroupedPage();
    all.kernel.add(...Array.from({ length: 12_000 }, (_, at) => `step ${at}`));
    for (let row = 0; row < 12_000; row += 3000) {
      all.give(row, row + 3000);
    }
    const { id } = all.groups[0]!;
    for (const most of [1, 2999, 3000, 3001, 6000, 12_000, 20_000]) {
      expect(all.query.groupLines(id, null, most)).toHaveLength(Math.min(most, 12_000));
    }
  });

  it('of an earlier cell stay as they stand, whatever window a later one sets', () => {
    const early = new GroupedPage({ cell: 1 });
    const whole = new Query(early.session);
    whole.setGrouped(true);
    early.kernel.add(...Array.from({ length: 40 }, (_, at) => ({ text: `step ${at}`, wall: 1000 + at / 4 })));
    early.give(0, 40);
    const kinds = (query: Query): string[] => Array.from({ length: query.length }, (_, index) => query.item(index).kind);
    early.state(3, 7);
    expect(kinds(early.query)).toEqual(['group']);
    expect(kinds(whole).filter(kind => kind === 'window')).toHaveLength(4);
    early.query.setFilter({ text: 'step' });
    early.scheduler.run(100);
    expect(kinds(early.query)).toEqual(['group']);
    const late = new Query(early.session, { cell: 1 });
    late.setGrouped(true);
    expect(kinds(late)).toEqual(['group']);
    // And the other way round.
    early.state(3, 1);
    expect(kinds(early.query)).toHaveLength(8);
    early.state(null, 7);
    expect([kinds(early.query).length, kinds(whole).length]).toEqual([8, 1]);
  });
});

describe('a live message without rows', () => {
  const CAT: TemplateTuple = [9, 9, ['', ' ', ''], '*#', 30];

  it('joins groups, in all lists, and asks for nothing', () => {
    const all = new GroupedPage();
    const { kernel } = all;
    kernel.add('step 1', 'lap 2', 'lap 3', 'step 4', 'lap 5');
    all.give(0, 4);
    const plain = new Query(all.session, { minLevel: 30 });
    const changes = { grouped: 0, plain: 0 };
    all.query.on('changed', () => (changes.grouped += 1));
    plain.on('changed', () => (changes.plain += 1));
    kernel.templates.set(9, CAT);
    kernel.merge(kernel.like('step 1'), 9);
    kernel.merge(kernel.like('lap 1'), 9);
    const asked = all.transport.sent.length;
    const { message } = kernel.rows(4, 4, { live: true });
    all.transport.receive({ ...message, templates: [...kernel.templates.values()] });
    all.scheduler.run(20);
    expect(all.groups).toMatchObject([{ text: '<*> <#>', count: 4, level: 30 }]);
    expect([plain.shown, all.session.rows]).toEqual([4, 4]);
    expect(changes.grouped).toBeGreaterThan(0);
    expect(changes.plain).toBeGreaterThan(0);
    all.give(4, 5);
    expect(all.groups).toMatchObject([{ count: 5 }]);
    all.scheduler.run(60_000);
    expect(all.transport.sent.slice(asked).filter(({ type }) => type !== 'hello')).toEqual([]);
  });

  it('redraws what is said of skipped lines', () => {
    const all = new GroupedPage();
    const { kernel, query } = all;
    query.setGrouped(false);
    kernel.templates.set(50, [50, 50, ['user a', ''], '#', 0]);
    kernel.add('a', 'b', 'c', 'd');
    all.give(0, 4, [{
      first: 1, end: 3, cells: [[1, 2, 1, 3]], wall: [1000, 1001], others: 0, groups: [[1, '', 1, 'user a1', 2, '0', 1, 50]]
    }]);
    expect(all.skips[0]?.groups).toMatchObject([{ text: 'user a<#>' }]);
    let changes = 0;
    query.on('changed', () => (changes += 1));
    all.transport.receive({ ...kernel.rows(4, 4, { live: true }).message, templates: [[50, 50, ['user ', ''], '*', 0]] });
    all.scheduler.run(20);
    expect(changes).toBe(1);
    expect(all.skips[0]?.groups).toMatchObject([{ text: 'user <*>' }]);
  });
});
