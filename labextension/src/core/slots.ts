/** The slots of a template in a line: where they are, and what they are called. Pure functions. */
import { withoutSgr } from './carriage';
import { SlotKind } from './protocol';
import type { Shape } from './templates';

/** How much of the text before a slot is looked at for its name. */
const LOOK_CHARS = 80;
/** Behind a word that was cut, "\u2026", there is no name. */
const NAME = /([\p{L}_][\p{L}\p{N}_.-]{0,39})[^\p{L}\p{N}_\u2026]{0,4}$/u;
/** Pieces up to this length are sought where they overlap themselves, one place after the other. */
const SHORT_PIECE = 16;

/** What stands in each slot of a line, in order; null where the line does not fit. A number is as long as
 * it can be; any other text ends where the piece behind it first stands, with a number behind that where
 * the next slot is one; the last text ends where the last piece stands at the line's end. Nothing is tried
 * twice: linear in the length of the line. The kernel's `Template.values` gives the same. */
export function slotsOf(line: string, { pieces, kinds }: Shape): string[] | null {
  const first = pieces[0] as string;
  if (!line.startsWith(first)) {
    return null;
  }
  const slots: string[] = [];
  let at = first.length;
  for (let slot = 0; slot < kinds.length; slot += 1) {
    const piece = pieces[slot + 1] as string;
    const end = slotEnd(line, at, piece, kinds[slot] as string, kinds[slot + 1]);
    if (end < at || !line.startsWith(piece, end)) {
      return null;
    }
    slots.push(line.slice(at, end));
    at = end + piece.length;
  }
  return at === line.length ? slots : null;
}

/** Where the slot ends that begins at `from`, with `piece` behind it; less than `from`: nowhere. `next`:
 * the kind of the slot behind that, if any. */
function slotEnd(line: string, from: number, piece: string, kind: string, next: string | undefined): number {
  if (kind === SlotKind.number) {
    return numberEnd(line, from);
  }
  if (next === undefined) {
    return line.length - piece.length;
  }
  return next === SlotKind.number ? seekBeforeNumber(line, piece, from) : line.indexOf(piece, from);
}

/** The first place, from `from` on, of a piece with a number behind it; -1: none. */
function seekBeforeNumber(line: string, piece: string, from: number): number {
  const { length } = piece;
  let at = line.indexOf(piece, from);
  while (at >= 0 && numberEnd(line, at + length) < 0) {
    if (length > SHORT_PIECE) {
      return seekOverlapping(line, piece, at + 1);
    }
    at = at < line.length ? line.indexOf(piece, at + 1) : -1;
  }
  return at;
}

/** The same for a piece that may overlap itself over a great length (Knuth, Morris and Pratt): no
 * character of the line is compared again with what it was found equal to. */
function seekOverlapping(line: string, piece: string, from: number): number {
  const borders = bordersOf(piece);
  let matched = 0;
  for (let at = from; at < line.length; at += 1) {
    const code = line.charCodeAt(at);
    while (matched > 0 && code !== piece.charCodeAt(matched)) {
      matched = borders[matched - 1] as number;
    }
    matched += code === piece.charCodeAt(matched) ? 1 : 0;
    if (matched === piece.length) {
      if (numberEnd(line, at + 1) >= 0) {
        return at + 1 - matched;
      }
      matched = borders[matched - 1] as number;
    }
  }
  return -1;
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

/** What to call each slot: the word in front of it, or else its number, "#2". */
export function slotNames({ pieces, kinds }: Shape): string[] {
  return Array.from(kinds, (_, slot) => {
    const before = withoutSgr(pieces[slot] as string).slice(-LOOK_CHARS);
    return NAME.exec(before)?.[1] ?? `#${slot + 1}`;
  });
}

/** How many slots of a template there are of each kind. */
export function countKinds({ kinds }: Shape): { numbers: number; texts: number } {
  const numbers = kinds.split(SlotKind.number).length - 1;
  return { numbers, texts: kinds.length - numbers };
}
