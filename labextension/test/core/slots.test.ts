import { describe, expect, it } from 'vitest';
import { numberOf, slotNames, slotsOf } from '../../src/core/slots';
import { randomFrom } from './kernel';

describe('slots of a line', () => {
  it.each([
    ['step 12 loss 0.5', ['step ', ' loss ', ''], ['12', '0.5']],
    ['12 steps', ['', ' steps'], ['12']],
    ['12', ['', ''], ['12']],
    ['', ['', ''], ['']],
    ['[a] [b]', ['[', '] [', ']'], ['a', 'b']],
    // The last piece stands at the end, wherever else it stands too.
    ['took 5 ms of 9 ms', ['took ', ' ms'], ['5 ms of 9']],
    ['a, b, c', ['', ', ', ''], ['a', 'b, c']],
    ['no slot', ['no slot'], []],
    ['x=1=2=', ['x=', '=', '='], ['1', '2']]
  ])('%j of %j are %j', (line, pieces, slots) => {
    expect(slotsOf(line, { pieces, kinds: '*'.repeat(pieces.length - 1) })).toEqual(slots);
  });

  it.each([
    ['step 12', ['lap ', '']],
    ['step 12', ['step ', ' of ', '']],
    ['step 12', ['step ', ' s']],
    ['no slots', ['no slot']],
    // Pieces may not overlap.
    ['abab', ['aba', 'bab']],
    ['a--b', ['a-', '--', '-b']],
    ['', ['a', '']]
  ])('%j does not fit %j', (line, pieces) => {
    expect(slotsOf(line, { pieces, kinds: '*'.repeat(pieces.length - 1) })).toBeNull();
  });

  it('are found exactly where the line can be taken apart at all', () => {
    const seed = 20261122;
    const random = randomFrom(seed);
    const word = (most: number): string =>
      Array.from({ length: Math.floor(random() * most) }, () => 'ab '[Math.floor(random() * 3)]).join('');
    let fits = 0;
    for (let round = 0; round < 20_000; round += 1) {
      const pieces = Array.from({ length: 1 + Math.floor(random() * 4) }, () => word(3));
      const line = word(9);
      const found = slotsOf(line, { pieces, kinds: '*'.repeat(pieces.length - 1) });
      const about = `seed ${seed}: ${JSON.stringify([line, pieces])}`;
      expect(found !== null, about).toBe(new RegExp(`^${pieces.join('.*')}$`).test(line));
      if (found !== null) {
        fits += 1;
        expect(pieces.map((piece, at) => piece + (found[at] ?? '')).join(''), about).toBe(line);
      }
    }
    expect(fits).toBeGreaterThan(1000);
  });

  it('take time in proportion to the line', () => {
    const shape = { pieces: ['a', ...Array.from({ length: 50 }, () => 'ab'), 'c'], kinds: '*'.repeat(51) };
    const time = (length: number): number => {
      const line = 'a'.repeat(length);
      const start = performance.now();
      for (let round = 0; round < 20; round += 1) {
        expect(slotsOf(line, shape)).toBeNull();
      }
      return performance.now() - start;
    };
    time(100_000);
    // Ten times the time for ten times the length, or a hundred times if it were quadratic.
    expect(time(1_000_000)).toBeLessThan(40 * Math.max(1, time(100_000)));
  });

  it('are called after the word in front of them', () => {
    const pieces = ['step ', '/', ': loss=', ' lr = ', ' "host": "', '", took ', ' ', ' \x1b[1mgrad_norm\x1b[0m ', ''];
    expect(slotNames({ pieces, kinds: '########' })).toEqual([
      'step', '#2', 'loss', 'lr', 'host', 'took', '#7', 'grad_norm'
    ]);
  });
});

describe('numbers', () => {
  it.each([
    ['12', 12], ['-0.5', -0.5], ['+3', 3], ['1e-9', 1e-9], ['2.5E+3', 2500], ['.5', 0.5], ['5.', 5], ['007', 7]
  ])('%j is %d', (text, number) => {
    expect(numberOf(text)).toBe(number);
  });

  it.each(['', ' ', 'nan', 'inf', 'Infinity', '0x1f', '1,5', '1 2', '--1', '1e', 'e5', '.'])('%j is none', text => {
    expect(numberOf(text)).toBeNaN();
  });
});
