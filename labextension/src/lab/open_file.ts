/** Opens the file and line that a traceback names. */
import { Notification } from '@jupyterlab/apputils';
import { PageConfig, PathExt } from '@jupyterlab/coreutils';
import type { IDocumentManager } from '@jupyterlab/docmanager';
import type { FileEditor } from '@jupyterlab/fileeditor';
import type { Widget } from '@lumino/widgets';

export type OpenFile = (path: string, line: number) => void;

/** Files that the Jupyter server does not serve get a notification. `directory` gives that of the
 * notebook, relative to the server's root. */
export function fileOpener(documents: IDocumentManager, directory: () => string): OpenFile {
  return (path, line) => {
    void open(documents, candidates(path, PageConfig.getOption('serverRoot'), directory()), line).then(found => {
      if (!found) {
        Notification.warning(`Not among the files of this Jupyter server: ${path}`, { autoClose: 5000 });
      }
    });
  };
}

/** Where the server may have the file, best first, relative to its root `serverRoot`. */
export function candidates(path: string, serverRoot: string, directory: string): string[] {
  if (!path.startsWith('/')) {
    return [...new Set([PathExt.join(directory, path), PathExt.normalize(path)])].filter(isInside);
  }
  // JupyterLab writes the user's home as "~".
  const home = /^\/(?:root|(?:home|Users)\/[^/]+)(?=\/)/.exec(path)?.[0] ?? '~';
  const root = serverRoot.replace(/^~/, () => home).replace(/\/+$/, '');
  return path.startsWith(`${root}/`) ? [PathExt.normalize(path.slice(root.length + 1))].filter(isInside) : [];
}

/** The text comes from a log: it may neither leave the root nor name another drive ("RTC:notes.py"). */
function isInside(path: string): boolean {
  return path !== '' && !path.startsWith('..') && !path.startsWith('/') && !path.includes(':');
}

async function open(documents: IDocumentManager, paths: string[], line: number): Promise<boolean> {
  for (const path of paths) {
    const model = await documents.services.contents.get(path, { content: false }).catch(() => null);
    if (model === null || model.type === 'directory') {
      continue;
    }
    // The text editor whatever the file's type: a log must not choose a viewer that runs scripts.
    const widget = documents.openOrReveal(path, 'Editor');
    if (widget === undefined) {
      continue;
    }
    await widget.context.ready;
    const { content } = widget;
    if (isFileEditor(content)) {
      const position = { line: Math.max(0, line - 1), column: 0 };
      content.editor.setCursorPosition(position);
      content.editor.revealPosition(position);
      content.editor.focus();
    }
    return true;
  }
  return false;
}

function isFileEditor(content: Widget): content is FileEditor {
  return 'editor' in content;
}
