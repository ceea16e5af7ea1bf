/**
 * What the core (no DOM) offers to views. Classes: {@link ISession} is made by `Session` (session.ts)
 * once per kernel session and page; {@link IQuery} by `Query` (query.ts) once per view.
 */
import type { Mode, ProcStateName, Request, SlotTuple, StateMessage, ValuesOf } from './protocol';
import type { Shape } from './templates';

/** Anything that tells of changes. `on` gives the undo. */
export interface IEvents<Events> {
  on<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void;
}

/** Carries messages to and from the kernel: an anywidget model, or a comm of JupyterLab. */
export interface ITransport {
  send(message: object): void;
  /** Called with each message; `buffer` is its binary part. */
  onMessage(listener: (data: unknown, buffer: DataView | null) => void): void;
  /** Called once, when nothing can be sent or received any more. */
  onClose(listener: () => void): void;
  dispose(): void;
}

export interface Source {
  id: number;
  rank: number;
  job: string;
  host: string;
  pid: number;
}

export interface Proc extends Source {
  state: ProcStateName;
  code: number | string | null;
  lines: number;
  /** Lines a second over the last few seconds. */
  rate: number;
  /** Seconds since its last output by the kernel's clock as of now; Infinity: never. */
  age: number;
  skipped: number;
  lost: number;
}

export interface Receipt {
  cell: number;
  text: string;
  complete: boolean;
}

/** Levels are Python's numbers (10 DEBUG .. 50 CRITICAL); 0: the line states none. */
export type Level = number;

export interface Filter {
  /** Only lines of this cell; null: of all. */
  cell: number | null;
  /** Hides lines of lower levels; lines without a level count as INFO (20). 0 hides none. */
  minLevel: Level;
  ranks: ReadonlySet<number> | null;
  /** Bit set: 1 stdout, 2 stderr; 3 both. */
  targets: number;
  hosts: ReadonlySet<string> | null;
  /** Only lines that contain this text, or match it as a regular expression; empty: all. */
  text: string;
  regex: boolean;
  matchCase: boolean;
  /** Wall seconds, from and to; null: all. */
  time: readonly [number, number] | null;
}

/** What one entry of the list shows. `id` stays the same while the entry is the same (use it to keep
 * the scroll position, selection and what is unfolded). */
export type Item = LineItem | BlockItem | SkipItem | GroupItem | WindowItem | LiveItem;

export interface Said {
  id: string;
  target: number;
  job: string;
  level: Level;
  cell: number;
}

/** One line. */
export interface LineItem extends Said {
  kind: 'line';
  row: number;
  source: Source;
  wall: number;
  /** Ready to show: settled behind the last carriage return; may hold SGR and other escapes. */
  text: string;
  /** "", or what is to be said of it: "line of 1,048,576 bytes, cut". */
  note: string;
  /** It goes on from an earlier, partial line. */
  continued: boolean;
  /** `fetch` with `whole` would bring more of it. */
  shortened: boolean;
}

/** A traceback (or another block that belongs together): one row that unfolds. */
export interface BlockItem extends Said {
  kind: 'block';
  row: number;
  /** All who said exactly the same, with how often. */
  ranks: readonly number[];
  count: number;
  source: Source;
  wall: number;
  /** The last line: "ValueError: no such file". */
  title: string;
  lines: readonly string[];
  /** Its end has not come yet. */
  open: boolean;
}

/** Rows that this page does not hold. */
export interface SkipItem {
  kind: 'skip';
  id: string;
  /** Of the rows that are not held, those among which the query's cell has lines. */
  first: number;
  end: number;
  /** How many lines of the query's cell there are among them (all of them for a whole mesh); in a grouped
   * list without those that its groups count and those that do not pass the filter. */
  lines: number;
  /** False: nothing is known but their number (evicted, or lost on the way and asked for). */
  known: boolean;
  groups: readonly SkippedGroup[];
  others: number;
  /** How many of them (that groups count) state level ERROR or more. */
  errors: number;
  wall: readonly [number, number];
  /** Being fetched now. */
  loading: boolean;
}

/** Lines among those of a skip that are alike. */
export interface SkippedGroup {
  /** As of a {@link GroupItem}. */
  text: string;
  shape: Shape | null;
  count: number;
  ranks: string;
  level: Level;
  target: number;
  job: string;
}

/** Lines that are alike. */
export interface GroupItem extends Said {
  kind: 'group';
  /** What all of them say, or the text of their template; where that is not known, of the first line. */
  text: string;
  /** Their template where they are not all the same; null where they are, or it is not known. */
  shape: Shape | null;
  /** Whether they are not all the same. */
  differs: boolean;
  /** The honest rest: lines of more kinds than the kernel remembers, and perhaps not alike. */
  others: boolean;
  count: number;
  ranks: readonly number[];
  firstWall: number;
  lastWall: number;
  /** How many of `count` this page holds as lines (the others were skipped). */
  held: number;
}

/** What a slot holds that is of numbers. */
export interface NumberValues {
  kind: '#';
  count: number;
  min: number;
  minRank: number;
  /** Exact, or where there are millions of numbers that of evenly chosen ones. */
  median: number;
  max: number;
  maxRank: number;
}

/** What a slot holds that is of other texts. */
export interface TextValues {
  kind: '*';
  /** How many different ones; `more`: at least. */
  distinct: number;
  more: boolean;
  /** The most frequent ones, those first, with folded ranks. */
  top: readonly { value: string; count: number; ranks: string }[];
}

export type SlotValues = NumberValues | TextValues;

/** What the slots of a group hold. */
export interface GroupValues {
  /** Of the first slots, one each; null where it is not known. */
  slots: readonly (SlotValues | null)[];
  /** How many lines have been looked at; some may have left this page since. */
  lines: number;
  /** Those that the kernel stores, or (false) those of this page. */
  stored: boolean;
  /** All lines of the group have been looked at. */
  whole: boolean;
  /** Grows when they change. */
  version: number;
}

/** Heads a window of groups: "Aggregated Logs (10:00:00 to 10:00:03, 1,200 lines)". */
export interface WindowItem {
  kind: 'window';
  id: string;
  cell: number;
  firstWall: number;
  lastWall: number;
  lines: number;
}

/** An unfinished line as it stands now: one per stream, behind all others. */
export interface LiveItem extends Said {
  kind: 'live';
  source: Source;
  wall: number;
  text: string;
}

/** Lines by level: index 0..5 for none, DEBUG, INFO, WARNING, ERROR, CRITICAL. */
export type LevelCounts = readonly [number, number, number, number, number, number];

export interface Bin {
  /** Wall seconds of its beginning; it is `step` wide. */
  start: number;
  counts: LevelCounts;
}

export interface QueryEvents {
  /** Items have been added at the end only; the value is how many. */
  grown: number;
  /** Anything may have changed: read again what is visible. */
  changed: void;
}

/** A filtered, grouped or plain list over a session. All reads are cheap; long work (a new text filter
 * over many lines, find) is done in slices of a few milliseconds from the end backwards. */
export interface IQuery extends IEvents<QueryEvents> {
  readonly session: ISession;
  readonly filter: Readonly<Filter>;
  setFilter(change: Partial<Filter>): void;
  /** Grouped, or every line. */
  readonly grouped: boolean;
  setGrouped(grouped: boolean): void;
  /** "" or why the filter's regular expression is not one. */
  readonly problem: string;
  readonly length: number;
  item(index: number): Item;
  /** Index of the item with this id, or of what took its place; -1 where it is gone. */
  indexOf(id: string): number;
  /** Lines that a group stands for, oldest first, at most `most`, of these ranks (null: all). */
  groupLines(id: string, ranks: ReadonlySet<number> | null, most: number): LineItem[];
  /** What the slots of a group hold, as far as that is known by now. It is computed from now on, in slices,
   * and kept up to date at most once a second, until {@link dropValues}; `changed` tells when there is
   * more. Where this page does not hold all lines and `stored` is set, the kernel is asked. */
  values(id: string, stored: boolean): GroupValues | null;
  /** A group's values are of no interest any more. */
  dropValues(id: string): void;
  /** Lines (not items) shown and hidden by the filter; skipped lines count in neither. */
  readonly shown: number;
  readonly hidden: number;
  /** Lines of the query's cell that are known to exist and that this page does not hold. */
  readonly notHeld: number;
  /** How many of the query's cell state ERROR or more, unfiltered: held, and as far as known of the rest. */
  readonly errors: number;
  /** Of the query's cell, unfiltered. */
  readonly levels: LevelCounts;
  /** True while a slice of work is due. */
  readonly working: boolean;
  /** At most `most` bins over the time of what is shown (but for the time filter, which is left out),
   * and their width in seconds. */
  histogram(most: number): { step: number; bins: Bin[] };
  /** Indices of items whose text matches, found in slices; calls `found` as it goes. */
  find(text: string, options: { regex: boolean; matchCase: boolean }, found: (search: Found) => void): () => void;
  /** The next item behind (or before) `index` with level ERROR or more; -1: none. */
  nextError(index: number, direction: 1 | -1): number;
  /** The lines that pass the filter, oldest first, as text or JSON lines (fields: time, host, rank, job,
   * pid, stream, level, text, seq), with a note for each range that is not held. */
  export(format: 'text' | 'jsonl'): Blob;
  dispose(): void;
}

export interface Found {
  /** Item ids in the list's order; stays valid when the list grows. */
  ids: readonly string[];
  done: boolean;
  problem: string;
}

export interface SessionEvents {
  /** Mode, mesh state, cell, connection. */
  state: void;
  procs: void;
  receipt: Receipt;
}

export interface ISession extends IEvents<SessionEvents> {
  readonly id: string;
  /** Whether a transport is open. False: the kernel is gone, or the page has no way to it yet. */
  readonly connected: boolean;
  /** The mesh's true state; null before it is known. */
  readonly state: Readonly<StateMessage> | null;
  readonly mode: Readonly<Mode> | null;
  readonly sources: ReadonlyMap<number, Source>;
  /** The procs of the mesh and of running commands, by rank, then job. */
  readonly procs: readonly Proc[];
  receipt(cell: number): Receipt | null;
  /** The newest receipt of all cells. */
  readonly lastReceipt: Receipt | null;
  /** Rows known to exist. */
  readonly rows: number;
  /** Lines a second over all procs, as of now. */
  readonly rate: number;
  readonly errors: number;
  /** Ask the kernel; resolves with the reply's text. Rejects with its error, or when the connection is
   * gone. It may take until the running cell ends where the kernel has no subshells. */
  request(request: Request): Promise<string>;
  /** What slots hold, over `lines` lines that the kernel stores; `whole`: over all. */
  values(of: ValuesOf): Promise<{ values: readonly SlotTuple[]; lines: number; whole: boolean }>;
  /** Bring rows that are not held; resolves when they are here. */
  fetch(first: number, end: number, whole?: boolean): Promise<void>;
  /** A file made by the kernel; `progress` is called with 0..1. */
  download(format: 'text' | 'jsonl' | 'parquet', cell: number | null, ranks: number[] | null, progress: (part: number) => void): Promise<{ name: string; blob: Blob }>;
}
