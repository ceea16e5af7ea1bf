import { describe, expect, it, vi } from 'vitest';
import type { Filter, SkipItem } from '../../src/core/api';
import type { SkipGroupTuple, SkipMessage } from '../../src/core/protocol';
import { EVERYTHING } from '../../src/core/query';
import { Templates } from '../../src/core/templates';
import { randomFrom } from './kernel';
import { GroupedPage } from './page';

function skipOf(first: number, end: number, groups: SkipGroupTuple[], wall: [number, number] = [1000, 1001]): SkipMessage {
  const counted = groups.reduce((sum, group) => sum + group[4], 0);
  return { first, end, cells: [[1, end - first, first, end]], wall, others: end - first - counted, groups };
}

const told = ({ groups }: SkipItem): unknown[] => groups.map(({ text, count }) => [text, count]);

describe('skipped lines that are alike, under a filter', () => {
  /** Row 0, eight lines of eight ranks that were left out, row 9. */
  function steps(text: string, differs: 0 | 1, lines = 8): GroupedPage {
    const all = new GroupedPage();
    all.kernel.add(...Array.from({ length: 10 }, (_, at) => ({ text: differs ? `step ${at}` : text, source: at % 8 })));
    const like = all.kernel.like(differs ? 'step 3' : text);
    all.give(0, 10, [skipOf(1, 9, [[1, '', 1, text, lines, '0-7', differs, like]], [1010, 1020])]);
    return all;
  }

  it.each<[Partial<Filter>]>([
    [{ ranks: new Set([3]) }], [{ ranks: new Set([0, 1, 2, 3, 4, 5, 6]) }], [{ text: 'step 3' }], [{ text: 'step 5' }],
    [{ text: '^step [35]$', regex: true }], [{ hosts: new Set(['host1']) }], [{ time: [1011, 1030] }], [{ time: [990, 1015] }]
  ])('are not shown here where only some may pass: %o', filter => {
    const all = steps('step 3', 1);
    all.filter(filter);
    expect(all.skips).toMatchObject([{ lines: 8, others: 0, groups: [{ count: 8, ranks: '0-7' }] }]);
    expect(all.groups.reduce((sum, { count }) => sum + count, 0)).toBe(all.query.shown);
  });

  it.each<[Partial<Filter>]>([
    [{}], [{ cell: 1 }], [{ ranks: new Set([0, 1, 2, 3, 4, 5, 6, 7, 8]) }], [{ targets: 1 }], [{ minLevel: 20 }], [{ time: [1010, 1020] }]
  ])('are counted in their group where all pass: %o', filter => {
    const all = steps('step 3', 1);
    all.filter(filter);
    expect(all.skips).toEqual([]);
    expect(all.groups.map(({ count, held }) => count - held)).toEqual([8]);
  });

  it.each<[Partial<Filter>]>([
    [{ ranks: new Set([8]) }], [{ targets: 2 }], [{ minLevel: 30 }], [{ time: [0, 1000] }], [{ cell: 2 }]
  ])('are hidden where none passes: %o', filter => {
    const all = steps('step 3', 1);
    all.filter(filter);
    expect(all.skips).toEqual([]);
    expect(all.groups.reduce((sum, { count }) => sum + count, 0)).toBe(all.query.shown);
  });

  it('are looked at for a text where all say the same', () => {
    const all = steps('all is well', 0);
    all.filter({ text: 'well' });
    expect([all.groups.map(({ count }) => count), all.skips]).toEqual([[10], []]);
    all.filter({ text: 'ill' });
    expect(all.items).toEqual([]);
  });

  it('that the kernel cut may say more than is told', () => {
    const all = steps('x'.repeat(200), 0);
    all.filter({ text: 'behind the cut' });
    expect(all.skips).toMatchObject([{ lines: 8 }]);
  });

  it('leave those that no group counts where they are, and tell their errors', () => {
    const all = new GroupedPage();
    all.kernel.add('a', ...Array.from({ length: 20 }, (_, at) => `ERROR: no ${at}`), 'b');
    all.give(0, 22, [skipOf(1, 21, [
      [1, '', 1, 'ERROR: no 0', 9, '0-3', 1, all.kernel.like('ERROR: no 0')], [1, '', 1, 'c', 4, '0', 0, all.kernel.like('c')]
    ])]);
    expect(all.skips).toMatchObject([{ lines: 7, others: 7, errors: 0, groups: [] }]);
    all.filter({ ranks: new Set([0]) });
    expect(all.groups.map(({ text, count }) => [text, count])).toEqual([['a', 1], ['c', 4], ['b', 1]]);
    expect(all.skips).toMatchObject([{ lines: 16, others: 7, errors: 9, groups: [{ text: 'ERROR: no <#>', count: 9 }] }]);
    expect(all.query.nextError(0, 1)).toBe(3);
    // The middle comes: what may pass of the rest is divided among both ends.
    all.bring(6, 11);
    expect(all.skips.map(({ lines, groups }) => [lines, groups.length])).toEqual([[expect.any(Number), 1], [expect.any(Number), 0]]);
    expect(all.skips.reduce((sum, { lines }) => sum + lines, 0)).toBe(11);
  });

  it.each(Array.from({ length: 60 }, (_, at) => 700 + at))(
    'are never counted where they do not pass, nor lost where they do (seed %i)',
    seed => {
      const random = randomFrom(seed);
      const pick = <Value>(...values: Value[]): Value => values[Math.floor(random() * values.length)] as Value;
      const all = new GroupedPage();
      all.kernel.add(...Array.from({ length: 60 }, () => ({
        text: `${pick('step', 'ERROR: x', 'lap')} ${pick(1, 1, 2)}`, source: pick(0, 1, 2, 3), target: pick(1, 1, 2)
      })));
      const groups = new Map<string, SkipGroupTuple>();
      const ranks = new Map<string, Set<number>>();
      for (const { text, target, source, template } of all.kernel.lines.slice(5, 55)) {
        const key = `${target} ${template}`;
        const [, , , first, count = 0, , differs = 0] = groups.get(key) ?? [];
        ranks.set(key, (ranks.get(key) ?? new Set()).add(source));
        const folded = [...(ranks.get(key) ?? [])].sort().join(',');
        groups.set(key, [target, '', 1, first ?? text, count + 1, folded, differs || Number((first ?? text) !== text), template]);
      }
      const some = [...groups.values()].filter(() => random() < 0.8);
      all.give(0, 60, [skipOf(5, 55, some, [1000.05, 1000.54])]);
      for (let round = 0; round < 12; round += 1) {
        const filter: Filter = {
          ...EVERYTHING,
          cell: pick(null, 1), minLevel: pick(0, 40), targets: pick(3, 3, 1), text: pick('', '', 'step', 'x 1', '2'),
          ranks: pick(null, null, new Set([1]), new Set([0, 1, 2, 3])), hosts: pick(null, null, new Set(['host0']))
        };
        all.filter(filter);
        const passing = all.kernel.lines.filter(({ text, source, target }) =>
          text.includes(filter.text) && (filter.targets & target) !== 0 &&
          (filter.ranks?.has(source) ?? true) && (filter.hosts?.has(`host${source % 2}`) ?? true) &&
          (filter.minLevel === 0 || text.startsWith('ERROR'))
        ).length;
        const counted = all.groups.reduce((sum, { count }) => sum + count, 0);
        const elsewhere = all.skips.reduce((sum, { lines }) => sum + lines, 0);
        const about = `seed ${seed}: ${JSON.stringify({ ...filter, ranks: [...(filter.ranks ?? [])], hosts: [...(filter.hosts ?? [])] })}`;
        expect(counted, about).toBeLessThanOrEqual(passing);
        expect(counted + elsewhere, about).toBeGreaterThanOrEqual(passing);
      }
    }
  );
});

describe('skipped lines that come after all', () => {
  function others(texts: readonly string[], groups: SkipGroupTuple[], template = 0): GroupedPage {
    const all = new GroupedPage();
    all.query.setGrouped(false);
    all.kernel.add({ text: 'start', template }, ...texts.map(text => ({ text, template })), { text: 'end', template });
    all.give(0, texts.length + 2, [skipOf(1, texts.length + 1, groups)]);
    return all;
  }

  it('are those of their text, where others of no template say something else', () => {
    const texts = ['a', 'a', 'a', 'a', 'c', 'c', 'c', 'c'];
    const all = others(texts, [[1, '', 1, 'a', 4, '0', 0, 0], [1, '', 1, 'c', 4, '0', 0, 0]]);
    all.bring(5, 8);
    expect(all.skips.map(told)).toEqual([[['a', 4], ['c', 1]], []]);
    all.bring(2, 3);
    expect(all.skips.map(told)).toEqual([[['a', 3], ['c', 1]], [], []]);
    all.bring(1, 9);
    expect(all.skips).toEqual([]);
  });

  it('are those of a group whose lines differ only where no other says what they say', () => {
    const all = others(['b', 'a', 'x', 'a', 'y'], [[1, '', 1, 'x', 3, '0', 1, 0], [1, '', 1, 'a', 2, '0', 0, 0]]);
    all.bring(2, 4);
    expect(told(all.skips[0]!)).toEqual([['x', 2], ['a', 1]]);
  });

  it('are those of their text, where the templates of two groups have become one', () => {
    const all = new GroupedPage();
    const { kernel } = all;
    all.query.setGrouped(false);
    kernel.templates.set(20, [20, 20, ['user anna'], '', 0]);
    kernel.templates.set(21, [21, 21, ['user bert'], '', 0]);
    kernel.add('start', ...['anna', 'anna', 'bert', 'bert'].map(name => ({ text: `user ${name}`, template: name === 'anna' ? 20 : 21 })), 'end');
    all.give(0, 6, [skipOf(1, 5, [[1, '', 1, 'user anna', 2, '0', 0, 20], [1, '', 1, 'user bert', 2, '0', 0, 21]])]);
    kernel.merge(21, 20);
    all.bring(3, 4);
    expect(told(all.skips[0]!)).toEqual([['user anna', 2], ['user bert', 1]]);
  });

  it('are known by the beginning of their text where the kernel cut it, even in a character', () => {
    const [one, other] = [`${'x'.repeat(199)}\u20ac and more`, 'y'.repeat(300)];
    const cut = `${'x'.repeat(199)}\\xe2`;
    const all = others([one, other, one, 'z'], [[1, '', 1, other.slice(0, 200), 1, '0', 0, 0], [1, '', 1, cut, 2, '0', 0, 0]]);
    expect(told(all.skips[0]!)).toEqual([['y'.repeat(200), 1], ['x'.repeat(199), 2]]);
    all.bring(3, 4);
    expect(told(all.skips[0]!)).toEqual([['y'.repeat(200), 1], ['x'.repeat(199), 1]]);
  });
});

describe('the volume of skipped lines', () => {
  function sums(all: GroupedPage, filter: Partial<Filter> = {}): number[] {
    all.filter({ ...EVERYTHING, ...filter });
    const levels = [0, 0, 0, 0, 0, 0];
    for (const { counts } of all.query.histogram(50).bins) {
      counts.forEach((count, slot) => (levels[slot]! += count));
    }
    return levels;
  }

  it('has all errors, also when their middle has come', () => {
    const all = new GroupedPage();
    all.kernel.add(...Array.from({ length: 102 }, (_, at) => (at > 60 && at < 81 ? 'ERROR: x' : `step ${at}`)));
    const groups: SkipGroupTuple[] = [
      [1, '', 1, 'step 1', 70, '0', 1, all.kernel.like('step 1')], [1, '', 1, 'ERROR: x', 20, '0', 0, all.kernel.like('ERROR: x')]
    ];
    all.give(0, 102, [skipOf(1, 101, groups, [1000, 1002])]);
    expect(sums(all)).toEqual([82, 0, 0, 0, 20, 0]);
    expect(sums(all, { minLevel: 40 })).toEqual([0, 0, 0, 0, 20, 0]);
    all.bring(11, 16);
    all.bring(30, 50);
    for (const cell of [null, 1]) {
      expect(sums(all, { cell })).toEqual([82, 0, 0, 0, 20, 0]);
      expect(sums(all, { cell, minLevel: 40 })).toEqual([0, 0, 0, 0, 20, 0]);
    }
    all.bring(58, 68);
    expect(sums(all, { minLevel: 40 })).toEqual([0, 0, 0, 0, 20, 0]);
    expect(sums(all, { cell: 2 })).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it('has the errors of lines that have left the page', () => {
    const all = new GroupedPage({ bounds: { lines: 100, bytes: 1 << 30 } });
    all.kernel.add(...Array.from({ length: 6000 }, (_, at) => (at % 10 ? `step ${at}` : 'ERROR: x')));
    for (let row = 0; row < 6000; row += 1000) {
      all.give(row, row + 1000);
    }
    expect(all.session.store.held).toBeLessThan(6000);
    expect(sums(all, { minLevel: 40 })).toEqual([0, 0, 0, 0, 600, 0]);
    expect(sums(all)).toEqual([5400, 0, 0, 0, 600, 0]);
  });

  it('is told by counts alone, however many skips there are', () => {
    const all = new GroupedPage();
    all.kernel.add(...Array.from({ length: 300 }, (_, at) => `step ${at}`));
    const group = [1, '', 1, 'step 1', 9, '0', 1, all.kernel.like('step 1')] as SkipGroupTuple;
    for (let row = 0; row < 300; row += 10) {
      all.give(row, row + 10, [skipOf(row, row + 9, [group])]);
    }
    const shapes = vi.spyOn(Templates.prototype, 'shape');
    expect(all.query.histogram(20).bins.flatMap(({ counts }) => [...counts]).reduce((sum, count) => sum + count, 0)).toBe(300);
    expect(shapes).not.toHaveBeenCalled();
  });
});
