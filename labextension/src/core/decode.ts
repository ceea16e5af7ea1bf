/** Rows messages as segments: one decoding of all their text, one pass over its newlines. */
import { hasMove, settle } from './carriage';
import type { RowsMessage } from './protocol';
import { Segment } from './segment';
import type { Sources } from './sources';
import { OTHERS } from './templates';
import type { Templates } from './templates';

const REWRITES = /\r|\x1b\[[0-2]?K/;
const ID_BYTES = 4;
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const NOTHING = new DataView(new ArrayBuffer(0));

/** The message's lines, one segment for each run of consecutive rows, in order of rows. Throws
 * RangeError where the buffer does not hold what the chunks say. */
export function decodeRows(
  message: RowsMessage,
  buffer: DataView | null,
  sources: Sources,
  templates: Templates
): Segment[] {
  const bytes = buffer ?? NOTHING;
  const textBytes = message.chunks.reduce((sum, chunk) => sum + chunk[7], 0);
  const ids = idsOf(message, bytes, textBytes);
  const length = Math.min(textBytes, bytes.byteLength);
  const text = decoder.decode(new Uint8Array(bytes.buffer, bytes.byteOffset, length));
  const marks = new Map(message.marks.map(([row, flags, bytes]) => [row, [flags, bytes] as const]));
  const rewrites = text.includes('\r') || text.includes('\x1b[');
  const segments: Segment[] = [];
  let segment: Segment | null = null;
  let begin = 0; // of the segment's text
  let at = 0;
  let line = 0;
  const close = (): void => {
    if (segment !== null) {
      segment.text = text.slice(begin, at);
      if (rewrites) {
        settleLines(segment);
      }
      segment.finish(templates);
      segments.push(segment);
    }
  };
  for (const [source, target, cell, firstRow, firstLine, count, wall] of message.chunks) {
    if (segment === null || segment.end !== firstRow) {
      close();
      segment = new Segment(firstRow, count);
      begin = at;
    }
    const facts = { source: sources.indexOf(source), target, cell, line: firstLine, wall };
    for (let row = firstRow; row < firstRow + count; row += 1) {
      const newline = text.indexOf('\n', at);
      if (newline < 0) {
        throw new RangeError(`rows message ${message.n} is shorter than its chunks say`);
      }
      at = newline + 1;
      const mark = marks.size === 0 ? undefined : marks.get(row);
      if (mark !== undefined) {
        segment.trueBytes.set(segment.count, mark[1]);
      }
      segment.push(facts, at - begin, mark?.[0] ?? 0, ids(line));
      facts.line += 1;
      line += 1;
    }
  }
  close();
  return segments;
}

/** Gives the template's id of each of the message's lines. Of a kernel that sends none all are others. */
function idsOf({ chunks }: RowsMessage, bytes: DataView, textBytes: number): (line: number) => number {
  const lines = chunks.reduce((sum, chunk) => sum + chunk[5], 0);
  return bytes.byteLength < textBytes + ID_BYTES * lines
    ? () => OTHERS
    : line => bytes.getUint32(textBytes + ID_BYTES * line, true);
}

/** Leaves out what carriage returns overwrite; lines that move the cursor stay as they are. */
function settleLines(segment: Segment): void {
  const { text, offsets, count } = segment;
  if (!REWRITES.test(text)) {
    return;
  }
  const lines: string[] = [];
  let begin = 0;
  let end = 0;
  for (let index = 0; index < count; index += 1) {
    const next = offsets[index + 1] as number;
    const line = text.slice(begin, next - 1);
    const settled = hasMove(line) ? line : settle(line);
    lines.push(settled);
    begin = next;
    end += settled.length + 1;
    offsets[index + 1] = end;
  }
  lines.push('');
  segment.text = lines.join('\n');
}
