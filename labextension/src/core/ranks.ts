/** Sets of ranks as people write them: "0-6,8". */

const PART = /^\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?$/;
const MOST_RANKS = 1_000_000;

/** The ranks in ascending order, runs of them as "first-last". */
export function foldRanks(ranks: Iterable<number>): string {
  const sorted = [...new Set(ranks)].sort((one, other) => one - other);
  const parts: string[] = [];
  for (let start = 0; start < sorted.length; ) {
    let end = start;
    while (end + 1 < sorted.length && sorted[end + 1] === (sorted[end] as number) + 1) {
      end += 1;
    }
    parts.push(start === end ? `${sorted[start]}` : `${sorted[start]}-${sorted[end]}`);
    start = end + 1;
  }
  return parts.join(',');
}

/** Folded ranks, or where that is shorter "all but" those that are missing of `all`. */
export function nameRanks(ranks: readonly number[], all: ReadonlySet<number>): string {
  const folded = foldRanks(ranks);
  const missing = new Set(all);
  for (const rank of ranks) {
    if (!missing.delete(rank)) {
      return folded;
    }
  }
  const rest = missing.size === 0 ? folded : `all but ${foldRanks(missing)}`;
  return rest.length < folded.length ? rest : folded;
}

/** The ranks that a folded text names, ascending; null where it is not one. "" names none. */
export function parseRanks(text: string): number[] | null {
  const ranks = new Set<number>();
  if (text.trim() !== '') {
    for (const part of text.split(',')) {
      const match = PART.exec(part);
      if (match === null) {
        return null;
      }
      const first = Number(match[1]);
      const last = match[2] === undefined ? first : Number(match[2]);
      if (last < first || last - first + ranks.size > MOST_RANKS) {
        return null;
      }
      for (let rank = first; rank <= last; rank += 1) {
        ranks.add(rank);
      }
    }
  }
  return [...ranks].sort((one, other) => one - other);
}
