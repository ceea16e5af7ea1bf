/**
 * What a terminal would show of lines that rewrite themselves: `\r`, erasing, and moves up and down.
 *
 * {@link settle} is for one line. {@link Screen} is for a stream whose lines rewrite earlier ones, as
 * tqdm with several positions and rich's Progress do: it tells which text each line of the terminal
 * ends up with, and which row of the log stands for it.
 */

 
const ERASE = /\x1b\[[0-2]?K/g;
const SGR = /\x1b\[[0-9;:]{0,64}m/g;
/** Escapes that show nothing: colours, and switching the cursor on and off. */
const NO_TEXT = /\x1b\[(?:[0-9;:]{0,64}m|\?25[hl])/g;
const CURSOR_SWITCH = /\x1b\[\?25[hl]/g;
const MOVE = /\x1b\[(\d{0,4})([AB])/;
const MOVES = /\x1b\[(\d{0,4})([AB])/g;
 

const LABEL = /^[^\d|%]*(?=[\d|%])/;

const MOST_CELLS = 200;
const QUIET_LINES = 64;
const MOST_COLOURS = 8;

/** Text without colours. */
export function withoutSgr(text: string): string {
  return text.includes('\x1b') ? text.replace(SGR, '') : text;
}

/** Whether the text moves the cursor to another line. */
export function hasMove(text: string): boolean {
  return text.includes('\x1b[') && MOVE.test(text);
}

/** Where the next such move from `from` on begins; -1: none. */
export function nextMove(text: string, from: number): number {
  MOVES.lastIndex = from;
  return MOVES.exec(text)?.index ?? -1;
}

/** Text without moves. */
export function withoutMoves(text: string): string {
  return text.includes('\x1b') ? text.replace(MOVES, '') : text;
}

/** What is seen of a line in the end: what stands behind the last carriage return that text follows.
 * The last colours set before it stay. */
export function settle(line: string): string {
  const text = line.includes('\x1b') ? line.replace(ERASE, '') : line;
  let end = text.length;
  for (;;) {
    const start = end === 0 ? 0 : text.lastIndexOf('\r', end - 1) + 1;
    const shown = text.slice(start, end);
    if (start === 0) {
      return shown;
    }
    if (shown.replace(NO_TEXT, '') !== '') {
      const colours = text.slice(Math.max(0, start - 4096), start).match(SGR) ?? [];
      return colours.slice(-MOST_COLOURS).join('') + shown;
    }
    end = start - 1;
  }
}

/** A line of the terminal: the row of the log that stands for it, and what it says now. */
export interface ScreenLine {
  row: number;
  text: string;
  /** Wiped by the program: nothing is to be shown of it. */
  wiped: boolean;
}

/**
 * The last lines of a terminal to which one stream is written. Feed it the stream's lines in order;
 * `lines` may be what stands above the cursor already.
 *
 * A row stands for the line of the terminal that it was the first to write to; rows that only rewrite
 * lines of earlier rows stand for nothing and are to be hidden.
 */
export class Screen {
  readonly lines: ScreenLine[];
  /** What has changed since `changed` was cleared last. */
  readonly changed = new Set<ScreenLine>();
  private cursor: number;
  private quiet = 0;

  /** `holds` tells whether a row is still there; lines of rows that are gone are taken over. */
  constructor(lines: ScreenLine[], private readonly holds: (row: number) => boolean) {
    this.lines = lines;
    this.cursor = lines.length;
  }

  /** Whether the stream seems to have gone back to plain lines. */
  get idle(): boolean {
    return this.quiet > QUIET_LINES && this.cursor >= this.lines.length;
  }

  /** Take a whole line (its newline follows). True where the row stands for a line of the terminal. */
  feed(row: number, text: string): boolean {
    let owns = false;
    let from = 0;
    this.quiet += 1;
    if (text.includes('\x1b[')) {
      for (const move of text.matchAll(MOVES)) {
        owns = this.write(row, text.slice(from, move.index)) || owns;
        from = move.index + move[0].length;
        const steps = move[1] === '' ? 1 : Math.max(1, Number(move[1]));
        this.cursor =
          move[2] === 'A'
            ? Math.max(0, this.cursor - steps)
            : Math.min(this.lines.length, this.cursor + steps);
        this.quiet = 0;
      }
    }
    const rest = from === 0 ? text : text.slice(from);
    if (rest !== '' || this.cursor >= this.lines.length) {
      owns = this.write(row, rest, from === 0 || rest !== '') || owns;
    }
    this.cursor += 1;
    if (this.lines.length > MOST_CELLS) {
      const gone = this.lines.length >> 1;
      this.lines.splice(0, gone);
      this.cursor = Math.max(0, this.cursor - gone);
    }
    return owns;
  }

  /** The line that a bar with the same label stands on: the text before its numbers. */
  lineLike(text: string): ScreenLine | undefined {
    const label = labelOf(text);
    return label === '' ? undefined : this.lines.find(line => !line.wiped && labelOf(line.text) === label);
  }

  private write(row: number, part: string, always = false): boolean {
    if (part === '' && !always) {
      return false;
    }
    const text = settle(part).replace(CURSOR_SWITCH, '');
    const wiped = part !== '' && text.replace(NO_TEXT, '').trim() === '' && part !== text;
    const line = this.lines[this.cursor];
    if (line === undefined) {
      const fresh = { row, text, wiped };
      this.lines.push(fresh);
      this.changed.add(fresh);
      return true;
    }
    line.text = text;
    line.wiped = wiped;
    this.changed.add(line);
    if (line.row !== row && !this.holds(line.row)) {
      line.row = row;
    }
    return line.row === row;
  }
}

function labelOf(text: string): string {
  return (LABEL.exec(text.replace(NO_TEXT, ''))?.[0] ?? '').trim();
}
