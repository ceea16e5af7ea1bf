/** How many lines of which level when. */
import type { Bin, Filter } from './api';
import { SLOTS } from './levels';
import type { Part } from './lines';
import type { Matches } from './matches';
import { Skip } from './skips';

/** What lines count as that state no level. */
const UNSTATED = 20;
const ERROR = 40;
const STEPS = [1, 2, 5];
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400];

/** Lines that this page does not hold: how many of each level (see LevelCounts), between which times. */
export interface Volume {
  wall: readonly [number, number];
  counts: readonly number[];
}

/** What is not held, as far as a filter can judge it, but for its time. */
export function volumesOf(
  parts: readonly Part[],
  { cell, minLevel, ranks, targets, hosts, text }: Filter
): Volume[] {
  const volumes: Volume[] = [];
  if (ranks !== null || targets !== 3 || hosts !== null || text !== '') {
    return volumes;
  }
  for (const part of parts) {
    if (!(part instanceof Skip) || !part.tells || !(part.summary.wall[1] > 0)) {
      continue;
    }
    const { summary } = part;
    const counts = [0, 0, 0, 0, 0, 0];
    let rest = summary.linesOf(cell);
    const add = (level: number, most: number): void => {
      const count = Math.min(rest, most);
      const slot = SLOTS[level] ?? 0;
      counts[slot] = (counts[slot] ?? 0) + ((level || UNSTATED) >= minLevel ? count : 0);
      rest -= count;
    };
    for (const group of summary.groups) {
      if (cell === null || group.cell === cell) {
        add(group.level, group.count);
      }
    }
    add(ERROR, summary.otherErrorsOf(cell));
    add(0, rest);
    volumes.push({ wall: summary.wall, counts });
  }
  return volumes;
}

/**
 * At most `most` bins (2 at least) over all lines that pass but for the time filter. Lines that are not
 * held are spread evenly over the time in which they were said.
 */
export function histogramOf(
  all: readonly Matches[],
  most: number,
  notHeld: readonly Volume[] = []
): { step: number; bins: Bin[] } {
  let first = Infinity;
  let last = -Infinity;
  for (const { segment, untimed } of all) {
    const walls = segment.wall;
    for (let at = 0; at < untimed.length; at += 1) {
      const wall = walls[untimed[at] as number] as number;
      first = wall < first ? wall : first;
      last = wall > last ? wall : last;
    }
  }
  for (const { wall } of notHeld) {
    first = Math.min(first, wall[0]);
    last = Math.max(last, wall[1]);
  }
  if (first > last) {
    return { step: 1, bins: [] };
  }
  const limit = Math.max(2, Math.floor(most));
  const step = stepFor(first, last, limit);
  const begin = Math.floor(first / step);
  const count = Math.floor(last / step) - begin + 1;
  const counts = new Uint32Array(count * 6);
  for (const { segment, untimed } of all) {
    const { wall: walls, level: levels } = segment;
    for (let at = 0; at < untimed.length; at += 1) {
      const index = untimed[at] as number;
      const bin = Math.floor((walls[index] as number) / step) - begin;
      const place = bin * 6 + (SLOTS[levels[index] as number] as number);
      counts[place] = (counts[place] as number) + 1;
    }
  }
  for (const volume of notHeld) {
    spread(volume, step, begin, counts);
  }
  const bins: Bin[] = [];
  for (let bin = 0; bin < count; bin += 1) {
    const [none, debug, info, warning, error, critical] = counts.subarray(bin * 6, bin * 6 + 6);
    bins.push({
      start: (begin + bin) * step,
      counts: [none ?? 0, debug ?? 0, info ?? 0, warning ?? 0, error ?? 0, critical ?? 0]
    });
  }
  return { step, bins };
}

function spread({ wall, counts }: Volume, step: number, begin: number, into: Uint32Array): void {
  const from = Math.floor(wall[0] / step) - begin;
  const bins = Math.floor(wall[1] / step) - begin - from + 1;
  counts.forEach((count, slot) => {
    for (let bin = 0; bin < bins; bin += 1) {
      const share = Math.floor((count * (bin + 1)) / bins) - Math.floor((count * bin) / bins);
      const place = (from + bin) * 6 + slot;
      into[place] = (into[place] as number) + share;
    }
  });
}

/** The finest step that people read easily and that needs no more than so many bins. */
function stepFor(first: number, last: number, most: number): number {
  const fits = (step: number): boolean =>
    Math.floor(last / step) - Math.floor(first / step) + 1 <= most;
  for (let power = 0.01; power < 1; power *= 10) {
    for (const step of STEPS) {
      if (fits(power * step)) {
        return power * step;
      }
    }
  }
  for (const step of SECONDS) {
    if (fits(step)) {
      return step;
    }
  }
  let step = 2 * 86400;
  while (!fits(step)) {
    step *= 2;
  }
  return step;
}
