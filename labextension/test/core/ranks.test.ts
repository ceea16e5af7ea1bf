import { describe, expect, it } from 'vitest';
import { foldRanks, nameRanks, parseRanks } from '../../src/core/ranks';

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

  it.each([
    [[0, 1, 2, 4, 5, 6, 8, 9, 10, 12], 13, 'all but 3,7,11'],
    [[0, 1, 2, 3, 4, 5, 6, 8], 9, '0-6,8'],
    [[0, 1, 2, 3], 4, '0-3'],
    [[0, 1, 99], 4, '0-1,99'],
    [[], 4, '']
  ])('%j of %i are named %j', (ranks, size, name) => {
    expect(nameRanks(ranks, new Set(Array.from({ length: size }, (_, rank) => rank)))).toBe(name);
  });

  it('are named as they are where the mesh is not known', () => {
    expect(nameRanks([0, 2, 4, 6], new Set())).toBe('0,2,4,6');
  });
});
