import { describe, expect, it } from 'vitest';
import { detached, templateHash, templateOf } from '../../src/core/patterns';
import { foldRanks, parseRanks } from '../../src/core/ranks';
import { randomFrom } from './kernel';

const hash = (text: string): number => templateHash(text, 0, text.length);

describe('templates', () => {
  it.each([
    ['step 12/300: 0.125 s, v1.2.3, x.5', 'step #/#: # s, v#, x.#'],
    ['no number', 'no number'],
    ['1.', '#.'],
    ['1..2', '#..#'],
    ['', '']
  ])('of %j is %j', (text, template) => {
    expect(templateOf(text)).toBe(template);
    expect(hash(text)).toBe(hash(template));
  });

  it.each([
    ['loss 0.5', 'loss nan'],
    ['rank 1 connected', 'rank 1 disconnected'],
    ['step 1', 'step 1.'],
    ['within 5 ms', 'exceeds 5 ms']
  ])('keep %j and %j apart', (one, other) => {
    expect(templateOf(one)).not.toBe(templateOf(other));
    expect(hash(one)).not.toBe(hash(other));
  });

  it('have equal hashes exactly where they are equal', () => {
    const seed = 20261121;
    const random = randomFrom(seed);
    const alphabet = '019.a #-';
    const byHash = new Map<number, string>();
    const hashes = new Map<string, number>();
    for (let round = 0; round < 20_000; round += 1) {
      const text = Array.from(
        { length: Math.floor(random() * 9) },
        () => alphabet[Math.floor(random() * alphabet.length)]
      ).join('');
      const template = templateOf(text);
      const number = hash(text);
      expect(byHash.get(number) ?? template, `seed ${seed}, ${text}`).toBe(template);
      expect(hashes.get(template) ?? number, `seed ${seed}, ${text}`).toBe(number);
      byHash.set(number, template);
      hashes.set(template, number);
    }
  });

  it('can be taken of a part of a text', () => {
    expect(templateHash('xx step 12 yy', 3, 10)).toBe(hash('step 7'));
  });

  it('are detached unchanged', () => {
    expect(detached('\ufeffgr\u00fc\u00df \ud83d\ude00')).toBe('\ufeffgr\u00fc\u00df \ud83d\ude00');
  });
});

describe('ranks', () => {
  it.each([
    [[0, 1, 2, 3, 4, 5, 6, 8], '0-6,8'],
    [[8, 1, 0, 1], '0-1,8'],
    [[5], '5'],
    [[], '']
  ])('%j fold to %j', (ranks, folded) => {
    expect(foldRanks(ranks)).toBe(folded);
    expect(parseRanks(folded)).toEqual([...new Set(ranks)].sort((one, other) => one - other));
  });

  it.each(['x', '1-', '-1', '3-1', '1,,2', '0-999999999', '1.5'])('%j names none', text => {
    expect(parseRanks(text)).toBeNull();
  });
});
