/** The slots of a template in a line: where they are, and what they are called. Pure functions. */
import { withoutSgr } from './carriage';
import { SlotKind } from './protocol';
import type { Shape } from './templates';

/** How much of the text before a slot is looked at for its name. */
const LOOK_CHARS = 80;
const WORD = /[\p{L}_][\p{L}\p{N}_.-]{0,40}/gu;
/** Words that name no value. */
const NO_NAMES = new Set('a an and are at by for from in is of on or the to was were with'.split(' '));
/** Pieces up to this length are sought where they overlap themselves, one place after the other. */
const SHORT_PIECE = 16;

/** What stands in each slot of a line, in order; null where the line does not fit. A number is as long as
 * it can be; any other text ends where what is behind it, up to the next such text, fits first; the last
 * text ends where the last piece stands at the line's end. There is no way back from there: linear in the
 * length of the line. The kernel's `Template.values` gives the same. */
export function slotsOf(line: string, shape: Shape): string[] | null {
  const { pieces, kinds } = shape;
  const first = pieces[0] as string;
  const ends = line.startsWith(first) ? new Numbers(line, shape, 0).endsFrom(first.length) : null;
  if (ends === null) {
    return null;
  }
  const beginOf = (slot: number): number => (ends[slot - 1] ?? 0) + (pieces[slot] as string).length;
  while (ends.length < kinds.length) {
    const more = textEnds(line, shape, ends.length, beginOf(ends.length));
    if (more === null) {
      return null;
    }
    ends.push(...more);
  }
  return ends.map((end, slot) => line.slice(beginOf(slot), end));
}

/** Where the text ends that begins at `from`, and the numbers up to the next text; null: nowhere. */
function textEnds(line: string, shape: Shape, slot: number, from: number): number[] | null {
  const piece = shape.pieces[slot + 1] as string;
  if (slot === shape.kinds.length - 1) {
    const end = line.length - piece.length;
    return end >= from && line.endsWith(piece) ? [end] : null;
  }
  const numbers = new Numbers(line, shape, slot + 1);
  const places = new Places(line, piece);
  for (let end = line.indexOf(piece, from); end >= 0; end = places.next(end + 1)) {
    const ends = numbers.endsFrom(end + piece.length);
    if (ends !== null) {
      return [end, ...ends];
    }
  }
  return null;
}

/** The number slots from `slot` up to the next text or the line's end, sought at ever later places. */
class Numbers {
  /** The piece behind each. */
  private readonly behind: Places[] = [];
  private readonly toLineEnd: boolean;
  /** Numbers that begin before this place end where one did that did not fit. */
  private misfitUntil = 0;

  constructor(
    private readonly line: string,
    { pieces, kinds }: Shape,
    slot: number
  ) {
    let next = slot;
    for (; kinds[next] === SlotKind.number; next += 1) {
      this.behind.push(new Places(line, pieces[next + 1] as string));
    }
    this.toLineEnd = next === kinds.length;
  }

  /** Where each of them ends if the first begins at `from`; null: they do not fit there. */
  endsFrom(from: number): number[] | null {
    if (from < this.misfitUntil) {
      return null;
    }
    const ends = this.fit(from);
    if (ends === null) {
      this.misfitUntil = digitsEnd(this.line, behindSign(this.line, from));
    }
    return ends;
  }

  private fit(from: number): number[] | null {
    const ends: number[] = [];
    let at = from;
    for (const places of this.behind) {
      const end = numberEnd(this.line, at);
      if (end < 0 || !places.has(end)) {
        return null;
      }
      ends.push(end);
      at = end + places.piece.length;
    }
    return this.toLineEnd && at !== this.line.length ? null : ends;
  }
}

/** Where a piece stands in a line, asked for at places that never fall. The first answer is a comparison;
 * for a piece that may overlap itself over a great length, no character of the line is compared again
 * after that with what it was found equal to (Knuth, Morris and Pratt). */
class Places {
  private asked = false;
  private borders: Uint32Array | null = null;
  /** How much of the piece stands right before `read`. */
  private matched = 0;
  private read = 0;

  constructor(
    private readonly line: string,
    readonly piece: string
  ) {}

  /** The first place at or behind `from`; -1: none. */
  next(from: number): number {
    const last = this.line.length - this.piece.length;
    if (this.piece.length <= SHORT_PIECE) {
      return from <= last ? this.line.indexOf(this.piece, from) : -1;
    }
    let at = from;
    while (at <= last && !this.has(at)) {
      at += 1;
    }
    return at <= last ? at : -1;
  }

  /** Whether the piece stands at a place. */
  has(at: number): boolean {
    if (!this.asked || this.piece.length <= SHORT_PIECE) {
      this.asked = true;
      return this.line.startsWith(this.piece, at);
    }
    if (at >= this.read) {
      this.read = at;
      this.matched = 0;
    }
    this.readTo(Math.min(at + this.piece.length, this.line.length));
    return this.matched === this.piece.length && this.read === at + this.matched;
  }

  private readTo(end: number): void {
    const { line, piece } = this;
    this.borders ??= bordersOf(piece);
    for (; this.read < end; this.read += 1) {
      const code = line.charCodeAt(this.read);
      while (this.matched > 0 && code !== piece.charCodeAt(this.matched)) {
        this.matched = this.borders[this.matched - 1] as number;
      }
      this.matched += code === piece.charCodeAt(this.matched) ? 1 : 0;
    }
  }
}

/** For each beginning of a piece, how long the longest shorter beginning is that it ends with. */
function bordersOf(piece: string): Uint32Array {
  const borders = new Uint32Array(piece.length);
  let matched = 0;
  for (let at = 1; at < piece.length; at += 1) {
    const code = piece.charCodeAt(at);
    while (matched > 0 && code !== piece.charCodeAt(matched)) {
      matched = borders[matched - 1] as number;
    }
    matched += code === piece.charCodeAt(matched) ? 1 : 0;
    borders[at] = matched;
  }
  return borders;
}

/** Where the longest number ends that begins at `from`, as `[-+]?(\d+(\.\d+)?|\.\d+)([eE][-+]?\d+)?`
 * has it; -1: none begins there. */
function numberEnd(line: string, from: number): number {
  const begin = behindSign(line, from);
  const whole = digitsEnd(line, begin);
  const fraction = line[whole] === '.' ? digitsEnd(line, whole + 1) : 0;
  const end = fraction > whole + 1 ? fraction : whole;
  if (end === begin) {
    return -1;
  }
  if (line[end] !== 'e' && line[end] !== 'E') {
    return end;
  }
  const power = behindSign(line, end + 1);
  const powerEnd = digitsEnd(line, power);
  return powerEnd > power ? powerEnd : end;
}

function behindSign(line: string, at: number): number {
  return line[at] === '-' || line[at] === '+' ? at + 1 : at;
}

/** Behind the digits 0 to 9 that stand at a place. */
function digitsEnd(line: string, from: number): number {
  let end = from;
  for (let code = line.charCodeAt(end); code >= 48 && code <= 57; code = line.charCodeAt(end)) {
    end += 1;
  }
  return end;
}

/** What to call each slot: the word in front of it, or else its number, "#2". As the kernel does. */
export function slotNames({ pieces, kinds }: Shape): string[] {
  return Array.from(kinds, (_, slot) => nameIn(pieces[slot] as string) ?? `#${slot + 1}`);
}

/** Nothing names the slot behind a piece that was cut, "\u2026". */
function nameIn(piece: string): string | undefined {
  const words = piece.endsWith('\u2026') ? [] : (withoutSgr(piece).slice(-LOOK_CHARS).match(WORD) ?? []);
  const names = words.filter(word => !NO_NAMES.has(word.toLowerCase()));
  return names[names.length - 1] ?? words[words.length - 1];
}

/** How many slots of a template there are of each kind. */
export function countKinds({ kinds }: Shape): { numbers: number; texts: number } {
  const numbers = kinds.split(SlotKind.number).length - 1;
  return { numbers, texts: kinds.length - numbers };
}
