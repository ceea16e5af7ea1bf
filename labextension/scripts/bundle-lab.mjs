/**
 * Builds the prebuilt JupyterLab extension from src/lab. Usage:
 *   node scripts/bundle-lab.mjs [DIRECTORY]
 * DIRECTORY (replaced as a whole) is by default the committed one, logmesh_ipy/labextension. The same
 * sources give the same bytes wherever the checkout is: the builder sees a package of fixed name and
 * place below this directory, holding only what it needs.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const target = resolve(process.argv[2] ?? `${root}/../logmesh_ipy/labextension`);
const stage = `${root}/build/stage`;

/** Runs a program of node_modules; what it says is shown only when it fails. */
function run(script, ...args) {
  try {
    execFileSync(process.execPath, [`node_modules/${script}`, ...args], { cwd: root, encoding: 'utf8', stdio: 'pipe' });
  } catch (failure) {
    process.stderr.write(`${failure.stdout}${failure.stderr}`);
    process.exit(1);
  }
}

rmSync(`${root}/lib`, { recursive: true, force: true });
run('typescript/bin/tsc', '--project', 'tsconfig.lib.json');

rmSync(stage, { recursive: true, force: true });
mkdirSync(stage, { recursive: true });
for (const part of ['lib', 'schema', 'style']) {
  cpSync(`${root}/${part}`, `${stage}/${part}`, { recursive: true });
}
const { name, version, description, license, main, style, dependencies, jupyterlab } = JSON.parse(
  readFileSync(`${root}/package.json`, 'utf8')
);
const manifest = { name, version, description, license, main, style, dependencies, jupyterlab };
// The builder's own choice are hashes of module names, among which is one with this directory's path.
writeFileSync(`${stage}/rspack.config.js`, "module.exports = { optimization: { moduleIds: 'natural' } };\n");
writeFileSync(
  `${stage}/package.json`,
  JSON.stringify({ ...manifest, jupyterlab: { ...jupyterlab, outputDir: 'out', webpackConfig: 'rspack.config.js' } })
);
run(
  '@jupyter/builder/lib/build-labextension.js',
  '--core-package-file',
  'node_modules/@jupyterlab/core-meta/core.package.json',
  stage
);

const built = JSON.parse(readFileSync(`${stage}/out/package.json`, 'utf8'));
delete built.jupyterlab.outputDir;
delete built.jupyterlab.webpackConfig;
writeFileSync(`${stage}/out/package.json`, `${JSON.stringify(built, null, 2)}\n`);
rmSync(target, { recursive: true, force: true });
cpSync(`${stage}/out`, target, { recursive: true });
