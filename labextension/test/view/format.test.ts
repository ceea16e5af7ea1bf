import { expect, it } from 'vitest';
import { age, clock, count, lines, short, since } from '../../src/view/format';

it('numbers', () => {
  expect([count(12403), lines(1), lines(0), lines(18204)]).toEqual(['12,403', '1 line', '0 lines', '18,204 lines']);
  expect([0, 3, 2.5, 940, 1234, 25_000, 999_499, 1_400_000].map(short)).toEqual(['0', '3', '2.5', '940', '1.2k', '25k', '999k', '1.4M']);
});

it('ages', () => {
  expect([0, 12, 200, 7300, Infinity].map(age)).toEqual(['now', '12 s', '3 min', '2 h', 'never']);
});

it('times since a base', () => {
  expect([since(10, 10), since(72.345, 10), since(3612.3, 10), since(9.5, 10)]).toEqual(['+0.000', '+1:02.345', '+1:00:02.3', '-0.500']);
});

it('times of day, and no exception for times that are none', () => {
  expect(clock(1790000000.12)).toMatch(/^\d\d:\d\d:\d\d\.120$/);
  expect(clock(1790000000, false)).toMatch(/^\d\d:\d\d:\d\d$/);
  expect([clock(NaN), clock(1e300)]).toEqual(['?', '?']);
});
