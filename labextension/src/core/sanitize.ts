/**
 * Log text made safe to show: a line is text, never markup and never a command.
 *
 * What a line may do is colour itself (SGR sequences). Every other control character, and every
 * character that hides or reorders its neighbours, comes out as a visible, inert picture of itself.
 * The same table as the kernel's `sanitize.py`. Pure functions, linear in the length of the text.
 */

/** Both repeats are bounded: a longer sequence is no colour, and is shown instead. */
const SGR = /\x1b\[([0-9;:]{0,128})m/g;
const ERASE_LINE = /\x1b\[[012]?K/g;

/** Anything that needs a second look: C0 but tab, DEL, C1, hiding and reordering characters. */
const SUSPECT =
  /[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]/;
const HIDING =
  /[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}\p{Cs}]/gu;

/** Persian, Indic scripts and emoji need joiners between their letters. Anywhere else they hide. */
const LETTER = '\\u00c0-\\u1fff\\u2070-\\ufefe\\uff00-\\u{dffff}';
const STRAY_JOINER = new RegExp(`(?<![${LETTER}])[\\u200c\\u200d]|[\\u200c\\u200d](?![${LETTER}])`, 'gu');

function picture(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x20) {
    return String.fromCharCode(0x2400 + code);
  }
  if (code === 0x7f) {
    return '\u2421';
  }
  if (code < 0xa0) {
    return `\\x${code.toString(16).padStart(2, '0')}`;
  }
  return code < 0x10000
    ? `\\u${code.toString(16).padStart(4, '0')}`
    : `\\U${code.toString(16).padStart(8, '0')}`;
}

/** Text without SGR sequences, as visible, inert characters. */
export function inert(text: string): string {
  if (!SUSPECT.test(text)) {
    return text;
  }
  return text.replace(STRAY_JOINER, picture).replace(HIDING, picture);
}

/** The text in order: what is an SGR sequence, by its parameters, and what is not. */
export function splitSgr(text: string, piece: (text: string) => void, sgr: (parameters: string) => void): void {
  const bare = text.includes('\x1b[') ? text.replace(ERASE_LINE, '') : text;
  let position = 0;
  for (const match of bare.matchAll(SGR)) {
    if (match.index > position) {
      piece(bare.slice(position, match.index));
    }
    sgr(match[1] ?? '');
    position = match.index + match[0].length;
  }
  if (position < bare.length) {
    piece(bare.slice(position));
  }
}

/** What is shown of a line, without its colours: for copying, labels and matching. */
export function toText(text: string): string {
  if (!SUSPECT.test(text)) {
    return text;
  }
  const shown: string[] = [];
  splitSgr(text, piece => shown.push(inert(piece)), () => undefined);
  return shown.join('');
}
