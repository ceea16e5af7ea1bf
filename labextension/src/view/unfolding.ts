/**
 * What is unfolded of a view's rows, and what rows ask for: more of an item, or lines that this page does
 * not hold.
 */
import type { GroupItem, GroupValues, IQuery, ISession, LineItem, SkipItem } from '../core/api';
import { presentId } from './cursor';
import type { RowActions, Unfolded } from './rows';

/** What unfolding asks of the view. */
export interface UnfoldingHost {
  /** Rows look different now. */
  changed(): void;
  /** Somebody reads here: the list stays where it is. */
  stay(): void;
  failed(error: unknown): void;
  showRanks(ranks: ReadonlySet<number>): void;
  showText(text: string): void;
}

export class Unfolding implements RowActions {
  readonly unfolded = new Map<string, Unfolded>();
  /** Ids of lines that show all of their text. */
  readonly whole = new Set<string>();

  constructor(
    private readonly session: ISession,
    private readonly query: IQuery,
    private readonly host: UnfoldingHost
  ) {}

  /** A row that is held through a change asks with the id that its item had. */
  unfold(id: string, how: Unfolded | null): void {
    const now = presentId(this.query, id);
    if (how) {
      this.unfolded.set(now, how);
      this.host.stay();
    } else {
      this.unfolded.delete(now);
    }
    this.host.changed();
  }

  showWhole(item: LineItem | null, id: string): void {
    this.whole.add(id);
    this.host.stay();
    this.host.changed();
    if (item?.shortened) {
      this.session.fetch(item.row, item.row + 1, true).then(
        () => this.host.changed(),
        (error: unknown) => this.host.failed(error)
      );
    }
  }

  fetch(item: SkipItem, most: number): void {
    const [first, end] =
      most > 0
        ? [Math.max(item.first, item.end - most), item.end]
        : [item.first, Math.min(item.end, item.first - most)];
    this.host.stay();
    this.session.fetch(first, end).catch((error: unknown) => this.host.failed(error));
  }

  groupLines(item: GroupItem, how: Unfolded): readonly LineItem[] {
    return this.query.groupLines(item.id, how.ranks, how.most);
  }

  values(item: GroupItem): GroupValues | null {
    return this.query.values(item.id, this.unfolded.has(item.id));
  }

  dropValues(id: string): void {
    this.query.dropValues(id);
  }

  showRanks(ranks: ReadonlySet<number>): void {
    this.host.showRanks(ranks);
  }

  showText(text: string): void {
    this.host.showText(text);
  }

  /** Items have changed: what was unfolded stays so where it has another id now. */
  follow(): void {
    for (const [id, how] of [...this.unfolded]) {
      const index = this.query.indexOf(id);
      const item = index < 0 ? null : this.query.item(index);
      if (item?.kind === 'group' && item.id !== id) {
        this.unfolded.delete(id);
        this.unfolded.set(item.id, this.unfolded.get(item.id) ?? how);
      }
    }
  }
}
