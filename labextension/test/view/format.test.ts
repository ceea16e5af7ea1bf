import { expect, it } from 'vitest';
import { age, clock, count, lines, quantity, short, since } from '../../src/view/format';

it('numbers', () => {
  expect([count(12403), lines(1), lines(0), lines(18204)]).toEqual(['12,403', '1 line', '0 lines', '18,204 lines']);
  expect([0, 3, 2.5, 940, 1234, 25_000, 999_499, 1_400_000].map(short)).toEqual(['0', '3', '2.5', '940', '1.2k', '25k', '999k', '1.4M']);
});

it.each([
  [0, '0'], [12, '12'], [1024, '1024'], [65536, '65,536'], [-1234567, '-1,234,567'], [0.1 + 0.2, '0.3'], [2.31482749, '2.31483'],
  [1234.5678, '1234.57'], [65536.25, '65,536'], [0.00012, '0.00012'], [0.0000501, '5.01e-5'], [1e-9, '1e-9'], [1e21, '1e21'],
  [-1.5e-7, '-1.5e-7'], [2 ** 50, '1.1259e15']
])('the number %d of a log is %s', (value, text) => {
  expect(quantity(value)).toBe(text);
});

it('numbers in narrow places have few digits', () => {
  expect([quantity(2.31482749, 4), quantity(0.0000123456, 4), quantity(12345, 4)]).toEqual(['2.315', '1.235e-5', '12,345']);
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
