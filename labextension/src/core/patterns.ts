/**
 * What makes lines alike: a template is a line with one `#` for each number, as in the kernel's
 * `logmesh_ipy/patterns.py`. Letters are never masked, so a number and `nan`, and texts that differ in
 * a word, stay apart.
 */

const NUMBER = /\d+(?:\.\d+)*/g;
const DIGIT = /\d/;

export function templateOf(text: string): string {
  return DIGIT.test(text) ? text.replace(NUMBER, '#') : text;
}

/** A 53-bit number that tells templates apart (cyrb53), of the text from `start` to `end`. Makes no
 * template and no copy. */
export function templateHash(text: string, start: number, end: number): number {
  let one = 0xdeadbeef;
  let other = 0x41c6ce57;
  for (let at = start; at < end; at += 1) {
    let code = text.charCodeAt(at);
    if (isDigit(code)) {
      while (
        at + 1 < end &&
        (isDigit(text.charCodeAt(at + 1)) ||
          (text.charCodeAt(at + 1) === POINT && at + 2 < end && isDigit(text.charCodeAt(at + 2))))
      ) {
        at += 1;
      }
      code = HASH_SIGN;
    }
    one = Math.imul(one ^ code, 2654435761);
    other = Math.imul(other ^ code, 1597334677);
  }
  one = Math.imul(one ^ (one >>> 16), 2246822507) ^ Math.imul(other ^ (other >>> 13), 3266489909);
  other = Math.imul(other ^ (other >>> 16), 2246822507) ^ Math.imul(one ^ (one >>> 13), 3266489909);
  return 4294967296 * (2097151 & other) + (one >>> 0);
}

const POINT = 0x2e;
const HASH_SIGN = 0x23;

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** The same text in memory of its own: a slice keeps alive what it was cut from. */
export function detached(text: string): string {
  return decoder.decode(encoder.encode(text));
}
