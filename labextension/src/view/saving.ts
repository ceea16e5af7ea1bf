/** What leaves the view: to the clipboard, or as a file. */
import type { IQuery, ISession } from '../core/api';
import { button, element } from './dom';
import { toText } from './sanitize';

const MOST_COPIED = 16 << 20;
const KEPT_MS = 60_000;

export type FileFormat = 'text' | 'jsonl' | 'parquet';

/** Hands a file to the browser. */
export function saveBlob(name: string, blob: Blob): void {
  const url = URL.createObjectURL(blob);
  const link = element('a', { href: url, download: name.replace(/[^\w. -]/g, '_'), rel: 'noopener' });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_MS);
}

/** Puts text on the clipboard; throws an Error that says why it cannot. */
export async function copyText(text: string): Promise<void> {
  // There is none where a page was not loaded over https or from this machine.
  if (!('clipboard' in navigator)) {
    throw new Error('this page may not write to the clipboard: select the lines and copy them by key');
  }
  await navigator.clipboard.writeText(text);
}

/** The lines that are shown, inert, as text; throws a RangeError where they are too many to copy. */
export async function shownText(query: IQuery): Promise<string> {
  const blob = query.export('text');
  if (blob.size > MOST_COPIED) {
    throw new RangeError('too many lines to copy: download them');
  }
  const text = await blob.text();
  return text.split('\n').map(toText).join('\n');
}

/** The menu of downloads. `report` shows progress and errors. */
export function downloadChoices(
  session: ISession,
  query: IQuery,
  report: (text: string, error: boolean) => void
): { nodes: HTMLElement[]; shown: (format: 'text' | 'jsonl') => void; all: (format: FileFormat) => void } {
  const cell = (): string => (query.filter.cell === null ? 'all' : `cell-${query.filter.cell}`);
  const shown = (format: 'text' | 'jsonl'): void => {
    saveBlob(`logs-${cell()}-shown.${format === 'text' ? 'txt' : 'jsonl'}`, query.export(format));
  };
  const all = (format: FileFormat): void => {
    report('download: asked for', false);
    session
      .download(format, query.filter.cell, null, part => report(`download: ${Math.round(100 * part)} %`, false))
      .then(
        file => {
          saveBlob(file.name, file.blob);
          report(`downloaded ${toText(file.name)}`, false);
        },
        (error: unknown) => report(`download: ${error instanceof Error ? error.message : String(error)}`, true)
      );
  };
  const choice = (text: string, run: () => void): HTMLElement => button(text, null, run, { text, class: 'lm-choice' });
  return {
    shown,
    all,
    nodes: [
      element('div', { class: 'lm-heading' }, 'Lines shown'),
      choice('Shown lines as text', () => shown('text')),
      choice('Shown lines as JSON lines', () => shown('jsonl')),
      element('div', { class: 'lm-heading' }, 'From the store, all lines'),
      choice('All lines as text', () => all('text')),
      choice('All lines as JSON lines', () => all('jsonl')),
      choice('All lines as Parquet', () => all('parquet'))
    ]
  };
}
