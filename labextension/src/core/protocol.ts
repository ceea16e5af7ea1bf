/**
 * What the kernel and the browser say to each other. The kernel's side is `logmesh_ipy/views/feed.py`
 * and `logmesh_ipy/views/panel.py`.
 *
 * One kernel session (from `%logmesh start` to the kernel's end) has one numbered stream of messages
 * for all cells and views. Rows are numbered from 0 over all procs and cells, in the order of their
 * arrival in the kernel's LogStore; everything about rows is idempotent: it can be sent, lost, sent
 * again and arrive in any order. Times are the hosts' wall clocks, in seconds since 1970.
 *
 * Every message is a JSON object with at most one binary buffer beside it, at most 256 KB together;
 * the kernel sends at most ten a second.
 */

/** `[source, rank, job, host, pid]`: who prints. `source` is unique in a session; `job` is "" for a
 * proc of the mesh and names the command ("job 1") of one started by exec. */
export type SourceTuple = [number, number, string, string, number];

/** `[source, target, cell, firstRow, firstLine, count, wall, bytes]`: `count` lines of one stream.
 * `target` is 1 (stdout) or 2 (stderr); `firstLine` numbers within the stream; `bytes` is how much of
 * the message's buffer they take: UTF-8 text, each line closed by "\n". Chunks of a message are in the
 * order of rows, their bytes in the order of chunks. */
export type ChunkTuple = [number, number, number, number, number, number, number, number];

/** `[row, flags, trueBytes]`: a line with something special, see {@link LineFlag}. */
export type MarkTuple = [number, number, number];

export const LineFlag = {
  /** Cut in the store: `trueBytes` tells the line's length. */
  truncated: 1,
  /** It has no newline: its stream ended there, or its cell did. */
  partial: 2,
  /** Its beginning is an earlier, partial line of the same stream. */
  continued: 4,
  /** Bytes next to it were skipped or lost. */
  broken: 8,
  /** A truncated line of which the text behind the last carriage return is kept. */
  overwritten: 16,
  /** Shortened for the way to the browser only; `fetch` with `whole` brings all of it. */
  shortened: 32
} as const;

/** `[id, into, pieces, kinds, level]`: what lines that are alike have in common. Ids are small numbers
 * from 1; 0 are the others: lines of more kinds than the kernel remembers.
 *
 * `into` is the template that it has become part of as more lines were seen, perhaps over several
 * steps; or its own id, where it stands for itself. Then a line is
 * `pieces[0] + slot + pieces[1] + slot + ...`, `kinds` holds one letter for each slot, and `level` is
 * Python's number of the level that such lines state, 0 for none. Else `pieces` is [], `kinds` "".
 * What comes later replaces what was told of the same id.
 *
 * A long piece is cut, and ends with "\u2026"; of many pieces the first are told, and one slot for the
 * rest. Where lines do not fit what is told, nothing is known of their slots here. */
export type TemplateTuple = [number, number, string[], string, number];

export const SlotKind = {
  /** Each value is a number: digits, sign, point, exponent. */
  number: '#',
  /** Anything else. */
  text: '*'
} as const;

/** `[target, job, cell, text, count, ranks, differs, template]`: lines that were left out and are
 * alike. `text` is one of them (its first 200 bytes), `differs` 1 where they are not all the same;
 * `ranks` are folded ("0-2,7"); `template` is the id of the template of all, or 0 where only their text
 * is told. */
export type SkipGroupTuple = [number, string, number, string, number, string, number, number];

/** Rows that are not in the message: left out under overload, or because they are old. */
export interface SkipMessage {
  first: number;
  end: number;
  /** `[cell, lines, first, end]` of each cell that has lines among them, and where these are. */
  cells: [number, number, number, number][];
  /** Wall times of the first and the last of them. */
  wall: [number, number];
  /** What they say, in short; lines that no group counts are `others`. */
  groups: SkipGroupTuple[];
  others: number;
}

interface Numbered {
  logmesh: 1;
  session: string;
  /** Number of the message in the session; a gap in the numbers is a lost message. */
  n: number;
}

/** Lines. Each row of `first` to `end` (exclusive) is in a chunk or in a skip. Live messages continue
 * each other: `first` is the `end` of the live one before; others answer `hello` and `fetch`. One without
 * rows (`first` is `end`) tells what has changed of templates.
 *
 * The buffer holds the text of all chunks, and behind it for each line, in the same order, the id of its
 * template: 32 bits, unsigned, little-endian, wherever the text ends (not aligned). Where they are
 * missing all lines are others. */
export interface RowsMessage extends Numbered {
  type: 'rows';
  live: boolean;
  first: number;
  end: number;
  sources: SourceTuple[];
  chunks: ChunkTuple[];
  marks: MarkTuple[];
  skips: SkipMessage[];
  /** Those that the message's lines and skips need or that have changed since they were told; all that
   * are needed are told again after `hello`. */
  templates?: TemplateTuple[];
}

/** The unfinished lines of all streams as they stand now (progress bars); replaces the list before.
 * `[source, target, cell, wall, text]`; `text` is what stands behind its last carriage return. */
export interface LiveMessage extends Numbered {
  type: 'live';
  lines: [number, number, number, number, string][];
  /** How many more there are than the list holds. */
  more: number;
}

export interface Mode {
  stream: boolean;
  /** Aggregation window in seconds; null: off. */
  window: number | null;
  /** Level of the root logger in the procs (Python's numbers). */
  level: number;
  autoflush: boolean;
}

/** The mesh's true state; sent when it changes, and in answer to `hello`. */
export interface StateMessage extends Numbered {
  type: 'state';
  mesh: 'running' | 'stopped' | 'lost';
  host: string;
  mode: Mode;
  /** Whether the kernel hears the browser while a cell runs (it has subshells). */
  atOnce: boolean;
  /** How many rows the store holds. */
  rows: number;
  /** The rows before it are none of this session; 0 where it is not given. */
  firstRow?: number;
  /** `[cell, text, complete]` of the last receipt of each cell; only in answer to `hello`. */
  receipts?: [number, string, boolean][];
  /** The mode holds from this cell on: that in which it was set. */
  cell: number;
  /** Whether a cell runs. */
  busy: boolean;
  /** A warning to show ("the log store cannot spill to disk"); empty: none. */
  trouble: string;
}

export type ProcStateName = 'running' | 'late' | 'exited' | 'killed' | 'lost';

/** `[source, rank, job, host, pid, state, code, lines, lastWall, skippedLines, lostLines]`.
 * `code`: exit code, or the signal's name ("SIGKILL") where the state is "killed", else null.
 * `lastWall`: when it said something last, 0 for never. `lines`: stored so far. */
export type ProcTuple = [
  number, number, string, string, number, ProcStateName, number | string | null, number, number,
  number, number
];

/** The procs that have changed since the last such message, or all (`full`). At most once a second. */
export interface ProcsMessage extends Numbered {
  type: 'procs';
  full: boolean;
  /** The kernel's wall clock, to tell ages by. */
  now: number;
  procs: ProcTuple[];
}

/** What the barrier at the end of a cell has proved. */
export interface ReceiptMessage extends Numbered {
  type: 'receipt';
  cell: number;
  text: string;
  complete: boolean;
}

/** `['#', count, min, minRank, median, max, maxRank]` of a slot that holds numbers, or
 * `['*', distinct, [[value, count, ranks], ...]]` of another one: how many different values it has, and
 * of the most frequent ones, those first, how often and by which ranks (folded) they were said. Of more
 * than 10,000 different ones the kernel tells of 10,000. */
export type SlotTuple =
  | ['#', number, number, number, number, number, number]
  | ['*', number, [string, number, string][]];

/** The answer to the request `id`. `rows` replies name what was answered; `next` is where a fetch that
 * was not answered whole goes on; `values` (one for each slot of the template), `lines` (how many were
 * looked at) and `whole` (whether these are all) answer a request for values. */
export interface ReplyMessage extends Numbered {
  type: 'reply';
  id: string;
  ok: boolean;
  error?: string;
  text?: string;
  next?: number;
  values?: SlotTuple[];
  lines?: number;
  whole?: boolean;
}

/** A piece of a download, in the buffer. */
export interface FileMessage extends Numbered {
  type: 'file';
  id: string;
  part: number;
  parts: number;
  name: string;
  mime: string;
}

export type KernelMessage =
  | RowsMessage
  | LiveMessage
  | StateMessage
  | ProcsMessage
  | ReceiptMessage
  | ReplyMessage
  | FileMessage;

/** Which lines a request for values is about. */
export interface ValuesOf {
  template: number;
  target: number;
  job: string;
  cell: number | null;
  first: number;
  end: number;
}

/** What the browser asks. `id` is any string that is unique among all pages. */
export type Request =
  /** A view has come (back): answers with state, procs, receipts, then the rows from `have` on: the
   * last ones, what is older as a skip. */
  | { type: 'hello'; have: number }
  /** The rows from `first` to `end`, at most 1 MB of them; `next` of the reply says where to go on. */
  | { type: 'fetch'; first: number; end: number; whole?: boolean }
  /** What is not given stays. */
  | { type: 'set_mode'; stream?: boolean; window?: number | null; level?: number }
  | { type: 'flush' }
  /** What the slots of a template hold, over all lines of one target and job from `first` to `end` that
   * are like it (and of one cell; null: of all). */
  | ({ type: 'values' } & ValuesOf)
  /** All lines of a cell (null: of all) as a file, in `file` messages. */
  | { type: 'download'; format: 'text' | 'jsonl' | 'parquet'; cell: number | null; ranks: number[] | null };

export type RequestMessage = Request & { logmesh: 1; session: string; id: string };

/** Whether a comm message's data is one of ours. */
export function isKernelMessage(data: unknown): data is KernelMessage {
  return typeof data === 'object' && data !== null && (data as { logmesh?: unknown }).logmesh === 1;
}
