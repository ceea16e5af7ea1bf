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

/** What Unicode calls default ignorable, and what breaks or turns lines; joiners and selectors see below. */
const HIDING =
  '\\xad\\u034f\\u061c\\u115f\\u1160\\u3164\\uffa0\\u17b4\\u17b5\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e' +
  '\\u2060-\\u206f\\ufeff\\ufff0-\\ufffb\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e00ff}' +
  '\\u{e01f0}-\\u{e0fff}';
const CONTROLS = '\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\\p{Cs}';
const JOINERS = '\\u200c\\u200d';
const SELECTORS = '\\u180b-\\u180d\\u180f\\ufe00-\\ufe0f\\u{e0100}-\\u{e01ef}';

/** Anything that needs a second look: also each half of what stands beyond U+FFFF. */
const SUSPECT = /[^\x20-\x7e\xa1-\xac\xae-\u02ff\u0370-\u05ff\u3041-\u30ff\u4e00-\u9fff\uac00-\ud7a3\t]/;
// eslint-disable-next-line no-misleading-character-class -- each of them stands for itself
const HARMFUL = new RegExp(`[${CONTROLS}${HIDING}]`, 'gu');

/**
 * Persian, Indic scripts and emoji need joiners between their letters, and a selector of its form behind
 * some of these, or in a keycap. Anywhere else they hide.
 */
const LETTER = '\\u00c0-\\u1fff\\u2070-\\ufefe\\uff00-\\u{dffff}';
const FORMED =
  '\\u00a9\\u00ae\\u00c0-\\u180a\\u1810-\\u1fff\\u203c\\u2049\\u2070-\\ufdff\\ufe10-\\ufefe\\uff00-\\u{dffff}';
const STRAY = new RegExp(
  `(?<![${LETTER}])[${JOINERS}]|[${JOINERS}](?![${LETTER}])` +
    `|(?<![${FORMED}])(?!(?<=[0-9#*])\\ufe0f\\u20e3)[${SELECTORS}]`,
  'gu'
);

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
  return text.replace(STRAY, picture).replace(HARMFUL, picture);
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
