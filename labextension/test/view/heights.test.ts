import { expect, it } from 'vitest';
import { Heights } from '../../src/view/heights';

it('of equal rows are products', () => {
  const heights = new Heights(20);
  heights.reset(1000);
  expect(heights.total).toBe(20_000);
  expect(heights.before(10)).toBe(200);
  expect([heights.find(-5), heights.find(199), heights.find(200), heights.find(1e9)]).toEqual([0, 9, 10, 999]);
});

it('of no rows: place 0', () => {
  const heights = new Heights(20);
  expect([heights.total, heights.find(50)]).toEqual([0, 0]);
});

it('agree with a plain sum, whatever is measured', () => {
  const heights = new Heights(18);
  const plain = Array.from({ length: 3000 }, () => 18);
  heights.reset(plain.length);
  let seed = 7;
  const random = (below: number): number => (seed = (seed * 16807) % 2147483647) % below;
  for (let round = 0; round < 500; round += 1) {
    const index = random(plain.length);
    plain[index] = 18 * (1 + random(9));
    heights.set(index, plain[index] ?? 0);
  }
  const before = (index: number): number => plain.slice(0, index).reduce((sum, height) => sum + height, 0);
  expect(heights.total).toBeCloseTo(before(plain.length));
  for (let round = 0; round < 200; round += 1) {
    const index = random(plain.length);
    expect(heights.before(index)).toBeCloseTo(before(index));
    expect(heights.find(before(index))).toBe(index);
    expect(heights.find(before(index + 1) - 1)).toBe(index);
  }
});

it('keep what was measured when rows are added, and forget it on a reset', () => {
  const heights = new Heights(18);
  heights.reset(10);
  heights.set(5, 90);
  heights.grow(100_000);
  heights.set(99_999, 36);
  expect(heights.total).toBe(100_000 * 18 + 72 + 18);
  heights.reset(10, 20);
  expect(heights.total).toBe(200);
});
