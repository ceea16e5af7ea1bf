/** A part of a text keeps alive all of what it was cut from. */

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** The same text in memory of its own. */
export function detached(text: string): string {
  return decoder.decode(encoder.encode(text));
}
