import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

test('the extension and the Python package have one version', () => {
  const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');
  const python = /__version__\s*=\s*"([^"]+)"/.exec(read('../../../logmesh_ipy/_version.py'))?.[1];
  expect((JSON.parse(read('../../package.json')) as { version: string }).version).toBe(python);
});
