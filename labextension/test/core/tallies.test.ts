import { describe, expect, it } from 'vitest';
import { keepAtMost, NumberTally, TextTally } from '../../src/core/tallies';
import { randomFrom } from './kernel';

function tallied(values: readonly number[], ranks: (at: number) => number = () => 0): ReturnType<NumberTally['result']> {
  const tally = new NumberTally();
  values.forEach((value, at) => tally.add(value, ranks(at)));
  return tally.result();
}

describe('numbers', () => {
  it('have a least, a greatest and who said these, first', () => {
    expect(tallied([3, 1, 7, 1, 7], at => at)).toEqual({
      kind: '#', count: 5, min: 1, minRank: 1, median: 3, max: 7, maxRank: 2
    });
    expect(tallied([])).toBeNull();
  });

  it.each([
    [[5], 5], [[1, 2], 1.5], [[4, 1, 3, 2], 2.5], [[2, 2, 2, 9], 2], [[-1, 1], 0], [[1e308, 1.5e308], 1.25e308]
  ])('%j have the median %d', (values, median) => {
    expect(tallied(values)?.median).toBe(median);
  });

  it.each([1, 2, 3, 4, 5, 6])('have the exact median, however many and however spread (seed %i)', seed => {
    const random = randomFrom(seed);
    const count = 1 + Math.floor(random() * 40_000);
    const spread = [
      (): number => random(),
      (at: number): number => at,
      (at: number): number => -at,
      (): number => Math.floor(random() * 3),
      (): number => 10 ** (600 * random() - 300),
      (at: number): number => (at % 2 ? 1 : -1) * at
    ][seed - 1] as (at: number) => number;
    const values = Array.from({ length: count }, (_, at) => spread(at));
    const tally = new NumberTally();
    for (const [at, value] of values.entries()) {
      tally.add(value, 0);
      if (at % 9973 === 0) {
        tally.result(); // results in between change nothing
      }
    }
    const sorted = Float64Array.from(values).sort();
    const [low, high] = [sorted[(count - 1) >> 1] as number, sorted[count >> 1] as number];
    expect(tally.result(), `seed ${seed}, ${count}`).toMatchObject({
      count, min: sorted[0], max: sorted[count - 1], median: low === high ? low : low / 2 + high / 2
    });
  });

  it('of which there are many give their result at once', () => {
    const tally = new NumberTally();
    for (let at = 0; at < 400_000; at += 1) {
      tally.add(at, 0); // runs that do not overlap
    }
    tally.result();
    const times = Array.from({ length: 5 }, () => {
      const start = performance.now();
      tally.result();
      return performance.now() - start;
    });
    expect(Math.min(...times)).toBeLessThan(4);
  });

  it.each([1, 2, 3])('too many to remember keep their extremes, and nearly their median (seed %i)', seed => {
    const random = randomFrom(seed);
    const tallies = Array.from({ length: 4 }, () => new NumberTally());
    const texts = new TextTally();
    const said = tallies.map((): number[] => []);
    for (let at = 0; at < 120_000; at += 1) {
      // The ranks take turns, and say numbers of their own.
      const rank = at % 8;
      tallies.forEach((tally, slot) => {
        const value = slot < 3 ? rank + random() : at;
        tally.add(value, rank);
        said[slot]?.push(value);
      });
      if (at % 500 === 0) {
        keepAtMost(50_000, [...tallies, texts]);
        expect(tallies.reduce((room, tally) => room + tally.room, 0)).toBeLessThanOrEqual(50_000);
      }
    }
    for (const [slot, tally] of tallies.entries()) {
      const sorted = Float64Array.from(said[slot] ?? []).sort();
      const [min, max] = [sorted[0] as number, sorted[sorted.length - 1] as number];
      expect(tally.result()).toMatchObject({ count: 120_000, min, max });
      const median = tally.result()?.median ?? NaN;
      const place = sorted.findIndex(value => value >= median) / sorted.length;
      expect(Math.abs(place - 0.5), `seed ${seed}, slot ${slot}`).toBeLessThan(0.005);
    }
  });

  it('that are few stay what they are, however little may be remembered', () => {
    const tallies = [[5], [1, 2, 3], []].map(values => {
      const tally = new NumberTally();
      values.forEach(value => tally.add(value, 0));
      return tally;
    });
    keepAtMost(10, tallies);
    expect(tallies.map(tally => tally.result())).toMatchObject([{ median: 5 }, { min: 1, max: 3 }, null]);
  });
});

describe('texts', () => {
  it('are named by how often they were said, with who said them', () => {
    const tally = new TextTally();
    const said = { a: [3, 1, 2], b: [0, 0], c: [1], d: [1, 1, 1, 1], e: [0, 5], f: [9], g: [9] };
    for (const [text, ranks] of Object.entries(said)) {
      ranks.forEach(rank => tally.add(text, rank));
    }
    expect(tally.result()).toEqual({
      kind: '*', distinct: 7, more: false,
      top: [
        { value: 'd', count: 4, ranks: '1' }, { value: 'a', count: 3, ranks: '1-3' }, { value: 'b', count: 2, ranks: '0' },
        { value: 'e', count: 2, ranks: '0,5' }, { value: 'c', count: 1, ranks: '1' }
      ]
    });
    expect(new TextTally().result()).toBeNull();
  });

  it('that never end take bounded memory, and say that there are more', () => {
    const tally = new TextTally();
    for (let at = 0; at < 30_000; at += 1) {
      tally.add(`id ${at}`, 0);
    }
    tally.add('id 5', 3);
    expect(tally.result()).toMatchObject({ distinct: 10_000, more: true, top: [{ value: 'id 5', count: 2, ranks: '0,3' }, {}, {}, {}, {}] });
    const long = new TextTally();
    long.add('x'.repeat(100_000), 0);
    expect(long.result()?.top[0]?.value.length).toBeLessThan(2000);
  });

  it('are counted where a long one is cut, which cuts no character', () => {
    const tally = new TextTally();
    for (const rank of [0, 1, 2]) {
      tally.add(`${'x'.repeat(999)}\u{1f600}z`, rank);
    }
    expect(tally.result()).toMatchObject({ distinct: 1, top: [{ value: `${'x'.repeat(999)}\u2026`, count: 3, ranks: '0-2' }] });
  });
});
