/** The held lines of a group that pass the filter, oldest first. */
import { levelSlot } from './levels';
import type { Group } from './groups';
import type { LineStore } from './lines';
import { lowerBound } from './matches';
import type { MatchCache } from './matches';
import { Segment } from './segment';
import type { Sources } from './sources';
import { OTHERS } from './templates';
import type { Templates } from './templates';

/** Called with each line; false ends the walk behind it. */
export type Visit = (segment: Segment, index: number) => boolean;

export class Members {
  constructor(
    private readonly store: LineStore,
    private readonly sources: Sources,
    private readonly matches: MatchCache,
    private readonly templates: Templates
  ) {}

  /** Visit a group's lines from row `from` on; of its cell only, where `perCell`. Pauses when `most` rows
   * or more have been looked at. Gives the row to go on with: that behind its last line when all were
   * visited. */
  walk(group: Group, perCell: boolean, from: number, visit: Visit, most = Infinity): number {
    let row = Math.max(from, group.row, this.store.first);
    const pause = row + most;
    let going = true;
    const each: Visit = (segment, index) => (going = visit(segment, index));
    while (going && row <= group.lastRow && row < pause) {
      const part = this.store.parts[this.store.indexOf(row)];
      row = part instanceof Segment ? this.walkIn(part, group, perCell, row, each) : (part?.end ?? Infinity);
    }
    return Math.min(row, group.lastRow + 1);
  }

  /** Gives the row behind the line that ended the walk, or behind the segment. */
  private walkIn(segment: Segment, group: Group, perCell: boolean, from: number, visit: Visit): number {
    const rows = this.matches.of(segment)?.rows ?? [];
    const roots = segment.roots(this.templates);
    const { first, target, cell, level, marks, source } = segment;
    const slot = levelSlot(group.level);
    const ofJob: boolean[] = [];
    for (let at = lowerBound(rows, from - first); at < rows.length; at += 1) {
      const index = rows[at] as number;
      if (first + index > group.lastRow) {
        break;
      }
      if (
        group.redrawn
          ? first + index !== group.row
          : roots[index] !== group.template ||
            marks[index] !== 0 ||
            target[index] !== group.target ||
            (perCell && cell[index] !== group.cell) ||
            (group.template === OTHERS && levelSlot(level[index] as number) !== slot)
      ) {
        continue;
      }
      const who = source[index] as number;
      if ((ofJob[who] ??= this.sources.at(who).job === group.job) && !visit(segment, index)) {
        return first + index + 1;
      }
    }
    return segment.end;
  }
}
