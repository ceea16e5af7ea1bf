import { expect, test, vi } from 'vitest';
import { candidates, fileOpener } from '../../src/lab/open_file';

const warning = vi.hoisted(() => vi.fn());
vi.mock('@jupyterlab/apputils', () => ({ Notification: { warning } }));

test('a relative path is looked for beside the notebook, then at the root', () => {
  expect(candidates('train.py', '/srv/work', 'experiments')).toEqual(['experiments/train.py', 'train.py']);
  expect(candidates('./a/train.py', '/srv/work', '')).toEqual(['a/train.py']);
});

test('an absolute path is one below the root', () => {
  expect(candidates('/srv/work/a/train.py', '/srv/work', 'x')).toEqual(['a/train.py']);
  expect(candidates('/srv/worker/train.py', '/srv/work', '')).toEqual([]);
  expect(candidates('/home/u/work/a.py', '~/work', '')).toEqual(['a.py']);
  expect(candidates('/root/a.py', '~', '')).toEqual(['a.py']);
});

test('a path of a log leaves neither the root nor the drive', () => {
  for (const path of ['../../etc/passwd', 'RTC:notes.py', '/srv/work/../secret.py', '']) {
    expect(candidates(path, '/srv/work', '')).toEqual([]);
  }
});

function documents(files: string[]) {
  const editor = { setCursorPosition: vi.fn(), revealPosition: vi.fn(), focus: vi.fn() };
  const get = (path: string): Promise<object> =>
    files.includes(path) ? Promise.resolve({ type: 'file' }) : Promise.reject(new Error('404'));
  const openOrReveal = vi.fn(() => ({ context: { ready: Promise.resolve() }, content: { editor } }));
  return { editor, openOrReveal, services: { contents: { get } } };
}

test('the file opens as text, at the line', async () => {
  const manager = documents(['a/x.py']);
  fileOpener(manager as never, () => 'a')('x.py', 12);
  await vi.waitFor(() => expect(manager.editor.revealPosition).toHaveBeenCalledWith({ line: 11, column: 0 }));
  expect(manager.openOrReveal).toHaveBeenCalledWith('a/x.py', 'Editor');
});

test('a file that the server does not have is told of', async () => {
  const manager = documents([]);
  fileOpener(manager as never, () => '')('/usr/lib/python3/x.py', 1);
  await vi.waitFor(() => expect(warning).toHaveBeenCalled());
  expect(manager.openOrReveal).not.toHaveBeenCalled();
});
