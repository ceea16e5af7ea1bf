/**
 * Bundles src/widget/index.ts as one ES module for anywidget. Usage:
 *   node scripts/bundle-widget.mjs [FILE]
 * FILE is by default the committed one, logmesh_ipy/static/widget.js. The same sources give the same
 * bytes wherever the checkout is.
 */
import { fileURLToPath } from 'node:url';
import { resolve } from 'node:path';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));

await build({
  absWorkingDir: root,
  entryPoints: ['src/widget/index.ts'],
  outfile: resolve(process.argv[2] ?? `${root}/../logmesh_ipy/static/widget.js`),
  bundle: true,
  minify: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2021',
  charset: 'utf8',
  legalComments: 'inline',
  // Styles are text that the view puts into its own root.
  loader: { '.css': 'text' },
  logLevel: 'warning'
});
