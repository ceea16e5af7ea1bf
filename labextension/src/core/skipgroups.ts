/**
 * What the kernel tells of lines that are not among the rows which a page holds: those that are alike,
 * with one of their texts. Which group counts a line that comes after all can only be told by that.
 */
import { levelOf } from './levels';
import type { SkipGroupTuple } from './protocol';
import { foldRanks, parseRanks } from './ranks';
import type { Segment } from './segment';
import { slotsOf } from './slots';
import { OTHERS } from './templates';
import type { Templates } from './templates';

/** Texts are cut behind so many bytes. */
const TEXT_BYTES = 200;
/** What the kernel tells of a character that it has cut. */
const TORN = /(?:\\x[89a-f][0-9a-f]){1,3}$/;

const encoder = new TextEncoder();

export interface SkipGroup {
  readonly target: number;
  readonly job: string;
  readonly cell: number;
  /** One of its lines, or the beginning of one where it is not `whole`. */
  readonly text: string;
  readonly whole: boolean;
  /** As it was told: see `Templates.find`. `OTHERS`: only the text is told. */
  readonly template: number;
  readonly ranks: string;
  readonly rankList: readonly number[];
  level: number;
  readonly differs: boolean;
  count: number;
}

/** What a message tells. */
export function skipGroup(tuple: SkipGroupTuple, templates: Templates): SkipGroup {
  const [target, job, cell, told, count, ranks, differs] = tuple;
  const template = tuple[7] ?? OTHERS; // another version of the kernel may tell none
  const whole = encoder.encode(told).length < TEXT_BYTES;
  return {
    target, job, cell, whole, template, ranks, count,
    text: whole ? told : told.replace(TORN, ''),
    rankList: parseRanks(ranks) ?? [],
    level: templates.level(template) ?? levelOf(told),
    differs: differs !== 0
  };
}

/** How many lines of a cell (null: of any) some groups count. */
export function linesIn(groups: readonly SkipGroup[], cell: number | null): number {
  let lines = 0;
  for (const group of groups) {
    lines += cell === null || group.cell === cell ? group.count : 0;
  }
  return lines;
}

/** Whether a group may count lines of a template, by what was told of it. */
export function mayCount({ template, text, differs }: SkipGroup, root: number, templates: Templates): boolean {
  if (template !== OTHERS || root === OTHERS) {
    return templates.find(template) === root;
  }
  const shape = templates.shape(root);
  return !differs || (shape !== null && slotsOf(text, shape) !== null);
}

/** Which of the groups that may count lines of its template counts a line: that of its text, or else one
 * of lines that differ. */
export function groupOf(
  groups: readonly SkipGroup[],
  lines: Segment,
  index: number,
  job: string
): SkipGroup | undefined {
  let differing: SkipGroup | undefined;
  for (const group of groups) {
    if (
      group.count === 0 ||
      group.target !== lines.target[index] ||
      group.job !== job ||
      group.cell !== lines.cell[index]
    ) {
      continue;
    }
    if (group.differs) {
      differing ??= group;
    } else if (lines.says(index, group.text, group.whole)) {
      return group;
    }
  }
  return differing;
}

/** Equal for groups that are one when what is known of several ranges becomes one. */
export function keyOf({ target, job, cell, template, text }: SkipGroup, templates: Templates): string {
  const root = templates.find(template);
  return `${root} ${target} ${cell} ${job}${root === OTHERS ? `\n${text}` : ''}`;
}

/** Two groups with the same key as one. */
export function joined(one: SkipGroup, other: SkipGroup): SkipGroup {
  const rankList =
    one.ranks === other.ranks
      ? one.rankList
      : [...new Set([...one.rankList, ...other.rankList])].sort((rank, next) => rank - next);
  return {
    ...one,
    differs: one.differs || other.differs || one.text !== other.text || !one.whole,
    rankList,
    ranks: one.ranks === other.ranks ? one.ranks : foldRanks(rankList),
    count: one.count + other.count
  };
}
