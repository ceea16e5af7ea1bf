/** Text search in lines: plain text or a regular expression. Colours are no part of the text. */
import { withoutSgr } from './carriage';
import { RowMark } from './segment';
import type { Segment } from './segment';

const SPECIAL = /[\\^$.*+?()[\]{}|/-]/g;

export interface TextSearch {
  text: string;
  regex: boolean;
  matchCase: boolean;
}

export class Matcher {
  private constructor(
    private readonly single: RegExp,
    /** Finds matches in many lines at once; null where a match might cross lines. */
    private readonly bulk: RegExp | null,
    /** Where case matters, plain text is found faster than by an expression. */
    private readonly needle: string | null
  ) {}

  /** Null where all lines match (no text), or else why the expression is not one. */
  static of({ text, regex, matchCase }: TextSearch): Matcher | string | null {
    if (text === '') {
      return null;
    }
    const flags = matchCase ? '' : 'i';
    if (!regex) {
      const pattern = text.replace(SPECIAL, '\\$&');
      const bulk = text.includes('\n') ? null : new RegExp(pattern, `g${flags}`);
      return new Matcher(new RegExp(pattern, flags), bulk, matchCase && bulk !== null ? text : null);
    }
    try {
      return new Matcher(new RegExp(text, flags), null, null);
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  test(line: string): boolean {
    const text = withoutSgr(line);
    return this.needle === null ? this.single.test(text) : text.includes(this.needle);
  }

  /** Sets `mask` to 1 for each line of the segment from `from` on that matches, else to 0. Of lines
   * that are not seen the value does not matter. */
  testAll(segment: Segment, from: number, mask: Uint8Array): void {
    mask.fill(0, from, segment.count);
    if (segment.hasEscape || segment.redrawn.size > 0 || this.bulk === null) {
      for (let index = from; index < segment.count; index += 1) {
        if (!((segment.marks[index] as number) & (RowMark.hidden | RowMark.member))) {
          mask[index] = this.test(segment.shown(index)) ? 1 : 0;
        }
      }
      return;
    }
    const { text, offsets } = segment;
    let index = from;
    let at = this.next(text, offsets[from] as number);
    while (at >= 0) {
      while (index < segment.count && (offsets[index + 1] as number) <= at) {
        index += 1;
      }
      mask[index] = 1;
      at = this.next(text, offsets[index + 1] as number);
    }
  }

  private next(text: string, from: number): number {
    if (this.needle !== null) {
      return text.indexOf(this.needle, from);
    }
    const bulk = this.bulk as RegExp;
    bulk.lastIndex = from;
    return bulk.exec(text)?.index ?? -1;
  }
}
