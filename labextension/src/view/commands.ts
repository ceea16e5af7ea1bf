/** What the view can be told to do, by name: by keys, buttons and the front end's commands. */

export type ViewCommand =
  | 'toggle-grouped'
  | 'find'
  | 'filter'
  | 'find-next'
  | 'find-previous'
  | 'next-error'
  | 'previous-error'
  | 'toggle-follow'
  | 'toggle-wrap'
  | 'cycle-time'
  | 'clear-filters'
  | 'flush'
  | 'toggle-stream'
  | 'toggle-controls'
  | 'toggle-histogram'
  | 'toggle-procs'
  | 'copy'
  | 'copy-row'
  | 'download-text'
  | 'download-jsonl'
  | 'download-all-text'
  | 'download-all-jsonl'
  | 'download-all-parquet'
  | 'show-keys';

/** What keys mean in the view, but in its fields. */
export const KEY_COMMANDS: Readonly<Record<string, ViewCommand>> = {
  '/': 'find',
  f: 'find',
  n: 'find-next',
  N: 'find-previous',
  e: 'next-error',
  E: 'previous-error',
  g: 'toggle-grouped',
  w: 'toggle-wrap',
  t: 'cycle-time',
  l: 'toggle-follow',
  x: 'clear-filters',
  c: 'copy-row',
  '?': 'show-keys'
};
