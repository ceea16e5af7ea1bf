/** The slots of a template in a line: where they are, and what they are called. Pure functions. */
import { withoutSgr } from './carriage';
import { SlotKind } from './protocol';
import type { Shape } from './templates';

/** How much of the text before a slot is looked at for its name. */
const LOOK_CHARS = 80;
const NAME = /([\p{L}_][\p{L}\p{N}_.-]{0,39})[^\p{L}\p{N}_]{0,4}$/u;
const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;

/** What stands in each slot of a line, in order; null where the line does not fit. Each piece is sought
 * behind the one before, and the last at the end: linear in the length of the line. */
export function slotsOf(line: string, { pieces }: Shape): string[] | null {
  const first = pieces[0] as string;
  const last = pieces.length - 1;
  if (!line.startsWith(first)) {
    return null;
  }
  if (last === 0) {
    return line === first ? [] : null;
  }
  const end = line.length - (pieces[last] as string).length;
  const slots: string[] = [];
  let from = first.length;
  for (let at = 1; at < last; at += 1) {
    const piece = pieces[at] as string;
    const found = line.indexOf(piece, from);
    if (found < 0 || found + piece.length > end) {
      return null;
    }
    slots.push(line.slice(from, found));
    from = found + piece.length;
  }
  if (from > end || !line.endsWith(pieces[last] as string)) {
    return null;
  }
  slots.push(line.slice(from, end));
  return slots;
}

/** The number that a slot's text is; NaN for none. */
export function numberOf(text: string): number {
  return NUMBER.test(text) ? Number(text) : NaN;
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
