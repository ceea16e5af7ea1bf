import { expect, test } from 'vitest';
import { statusText } from '../../src/lab/status_text';

const proc = (state: string, job = ''): never => ({ state, job }) as never;
const quiet = { procs: [proc('running'), proc('running')], rate: 0, errors: 0, state: null, connected: true };

test('it counts the procs of the mesh, not those of commands', () => {
  expect(statusText({ ...quiet, procs: [proc('running'), proc('exited'), proc('running', 'job 1')] })).toBe(
    'mesh 1/2 · 0 lines/s'
  );
});

test.each([
  [999.4, '999 lines/s'],
  [999.6, '1.0k lines/s'],
  [1234, '1.2k lines/s'],
  [9960, '10k lines/s'],
  [1_500_000, '1.5M lines/s']
])('%d lines a second are %s', (rate, text) => {
  expect(statusText({ ...quiet, rate })).toBe(`mesh 2/2 · ${text}`);
});

test('errors, an ended mesh and a lost kernel are told', () => {
  expect(statusText({ ...quiet, errors: 1 })).toBe('mesh 2/2 · 0 lines/s · 1 error');
  expect(statusText({ ...quiet, state: { mesh: 'stopped' } as never, errors: 1200 })).toBe(
    'mesh 2/2 · stopped · 1.2k errors'
  );
  expect(statusText({ ...quiet, connected: false })).toBe('mesh 2/2 · not connected');
});
