/** The lines that pass a filter, as a file made on this page. */
import type { Filter } from './api';
import type { LineStore } from './lines';
import type { MatchCache } from './matches';
import { toText } from './sanitize';
import { RowMark, Segment } from './segment';
import type { Skip } from './skips';
import type { Sources } from './sources';

const STREAMS: Readonly<Record<number, string>> = { 1: 'stdout', 2: 'stderr' };
const LEVELS: Readonly<Record<number, string>> = {
  10: 'DEBUG', 20: 'INFO', 30: 'WARNING', 40: 'ERROR', 50: 'CRITICAL'
};

/** Oldest first; text comes as inert characters, JSON as the procs printed it. A note stands for each range that is not held. Blocks stand together. */
export function exportLines(
  format: 'text' | 'jsonl',
  store: LineStore,
  sources: Sources,
  matches: MatchCache,
  filter: Readonly<Filter>
): Blob {
  const pieces: string[] = [];
  const write = format === 'text' ? textLine : jsonLine;
  for (const part of store.parts) {
    if (!(part instanceof Segment)) {
      pieces.push(skipNote(format, part, filter.cell));
      continue;
    }
    const lines: string[] = [];
    for (const index of matches.of(part)?.rows ?? []) {
      if (!((part.marks[index] as number) & RowMark.head)) {
        lines.push(write(part, index, sources));
        continue;
      }
      const block = part.blocks.find(each => each.head === part.first + index);
      for (const row of block?.rows ?? []) {
        const segment = store.segmentOf(row);
        if (segment !== null) {
          lines.push(write(segment, row - segment.first, sources));
        }
      }
    }
    pieces.push(lines.join(''));
  }
  const type = format === 'text' ? 'text/plain;charset=utf-8' : 'application/x-ndjson';
  return new Blob(pieces, { type });
}

function textLine(segment: Segment, index: number, sources: Sources): string {
  const { rank, job } = sources.at(segment.source[index] as number);
  const who = job === '' ? `${rank}` : `${rank} ${toText(job)}`;
  const stream = segment.target[index] === 2 ? ' err' : '';
  return `${timeOf(segment.wall[index] as number)} [${who}${stream}] ${toText(segment.shown(index))}\n`;
}

function jsonLine(segment: Segment, index: number, sources: Sources): string {
  const { rank, job, host, pid } = sources.at(segment.source[index] as number);
  const level = segment.level[index] as number;
  return `${JSON.stringify({
    time: timeOf(segment.wall[index] as number),
    host,
    rank,
    job,
    pid,
    stream: STREAMS[segment.target[index] as number] ?? '',
    level: LEVELS[level] ?? null,
    text: segment.shown(index),
    seq: segment.line[index]
  })}\n`;
}

function skipNote(format: 'text' | 'jsonl', skip: Skip, cell: number | null): string {
  const lines = skip.linesOf(cell);
  if (lines === 0) {
    return '';
  }
  return format === 'text'
    ? `[${lines.toLocaleString('en')} lines are not on this page]\n`
    : `${JSON.stringify({ note: 'lines are not on this page', lines })}\n`;
}

let lastWall = 0;
let lastTime = '';

/** Lines that follow each other often have the same. */
function timeOf(wall: number): string {
  if (wall !== lastWall || lastTime === '') {
    lastWall = wall;
    lastTime = new Date(wall * 1000).toISOString();
  }
  return lastTime;
}
