/** The current row of a list, and the range of rows that is chosen with it. Both are kept by item id, so
 * they stay true when items come, go, and become part of others. */
import type { IQuery } from '../core/api';
import { itemText } from './rows';

/** The id of the item that had this one, or of what took its place; the same where it is gone. */
export function presentId(query: IQuery, id: string): string {
  const index = query.indexOf(id);
  return index < 0 ? id : query.item(index).id;
}

export class Cursor {
  private id: string | null = null;
  private start: string | null = null;

  constructor(private readonly query: IQuery) {}

  /** Id of the current row. */
  get current(): string | null {
    return this.id;
  }

  /** Index of the current row; -1: none. */
  get index(): number {
    return this.id === null ? -1 : this.query.indexOf(this.id);
  }

  /** First and last index of the chosen rows; null: none are chosen. */
  get range(): readonly [number, number] | null {
    if (this.start === null) {
      return null;
    }
    const [first, last] = [this.query.indexOf(this.start), this.index];
    return first < 0 || last < 0 ? null : [Math.min(first, last), Math.max(first, last)];
  }

  /** Makes a row the current one; with `extend` all from where that began are chosen. */
  set(id: string, extend = false): void {
    this.start = extend ? (this.start ?? this.id) : null;
    this.id = id;
  }

  /** Items have changed: the rows stay current and chosen where they have other ids now. */
  follow(): void {
    this.id = this.id === null ? null : presentId(this.query, this.id);
    this.start = this.start === null ? null : presentId(this.query, this.start);
  }

  /** Where a step of `by` rows leads; without a current row it goes to `from` first. -1: nowhere. */
  target(by: number, from: number): number {
    const last = this.query.length - 1;
    const at = this.index;
    const to = at < 0 ? (Number.isFinite(by) ? from : from + by) : at + by;
    return Math.min(last, Math.max(0, to));
  }

  /** The rows of `first` to `last` (inclusive) as text. */
  text(first: number, last: number): string {
    const texts: string[] = [];
    for (let index = first; index <= last && index < this.query.length; index += 1) {
      texts.push(itemText(this.query.item(index)));
    }
    return texts.join('\n');
  }
}
