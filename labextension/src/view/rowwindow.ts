/**
 * The rows of a list that are in the document. A row keeps its element while its item stays the same, so
 * selections survive; the focus, and a click that has begun, also survive that the item becomes part of
 * another.
 */
import type { IQuery, Item } from '../core/api';
import { type Cursor, presentId } from './cursor';
import { element } from './dom';
import { buildRow, type RowActions, type RowLook, stamp } from './rows';

interface Shown {
  node: HTMLElement;
  index: number;
  stamp: string;
  look: number;
}

export class RowWindow {
  readonly node = element('div', { class: 'lm-rows' });
  private readonly shown = new Map<string, Shown>();
  private lookNumber = 0;
  private held: Element | null = null;

  /** `blurred` is called before the row that has the focus goes. */
  constructor(
    private readonly query: IQuery,
    private readonly look: RowLook,
    private readonly actions: RowActions,
    private readonly cursor: Cursor,
    private readonly blurred: () => void
  ) {}

  /** What rows look like has changed: the next `show` builds all of them again. */
  restyle(): void {
    this.lookNumber += 1;
  }

  /** The row that a node is in stays as it is until the next call, with null: it is being clicked, or its
   * text selected. Tells whether one was held. */
  hold(node: Node | null): boolean {
    const had = this.held !== null;
    this.held = rowAt(node);
    return had;
  }

  /** Makes the rows those of the items `first` to `last` (exclusive). */
  show(first: number, last: number): void {
    const items = Array.from({ length: last - first }, (_, at) => this.query.item(first + at));
    this.drop(new Set(items.map(({ id }) => id)));
    let next = this.node.firstElementChild;
    for (const [at, item] of items.entries()) {
      const before = this.shown.get(item.id)?.node;
      const node = this.rowOf(item, first + at);
      if (next !== null && next === before) {
        next = node;
      }
      if (node === next) {
        next = next.nextElementSibling;
      } else {
        this.move(node, next);
      }
    }
    this.mark();
  }

  /** The row of an item, if it is in the document. */
  row(id: string | null): HTMLElement | undefined {
    return id === null ? undefined : this.shown.get(id)?.node;
  }

  /** Index of the item whose row a node is in; -1: of none. */
  indexAt(node: Node | null): number {
    const row = rowAt(node);
    for (const shown of this.shown.values()) {
      if (shown.node === row) {
        return shown.index;
      }
    }
    return -1;
  }

  /** Calls `measured` with the height of each row. */
  measure(measured: (index: number, height: number) => void): void {
    for (const shown of this.shown.values()) {
      measured(shown.index, shown.node.offsetHeight);
    }
  }

  /** Shows which row is the current one, and which are chosen. */
  mark(): void {
    const range = this.cursor.range;
    for (const [id, shown] of this.shown) {
      const current = id === this.cursor.current;
      const chosen = range !== null && shown.index >= range[0] && shown.index <= range[1];
      shown.node.tabIndex = current ? 0 : -1;
      shown.node.classList.toggle('lm-current', current);
      shown.node.classList.toggle('lm-chosen', chosen);
    }
  }

  /** Removes all rows but those of the items to keep. One that is in use becomes the row of the item that
   * its own has become part of. */
  private drop(keep: ReadonlySet<string>): void {
    for (const [id, shown] of this.shown) {
      if (keep.has(id)) {
        continue;
      }
      this.shown.delete(id);
      this.actions.dropValues(id);
      const heir = this.isInUse(shown.node) ? presentId(this.query, id) : id;
      if (keep.has(heir)) {
        this.remove(this.shown.get(heir)?.node);
        this.shown.set(heir, { ...shown, stamp: '' });
      } else {
        this.remove(shown.node);
      }
    }
  }

  private isInUse(row: Element): boolean {
    return row === this.held || row.contains(document.activeElement);
  }

  private remove(row: Element | undefined): void {
    if (row?.contains(document.activeElement)) {
      this.blurred();
    }
    row?.remove();
  }

  /** Puts a row before another, or (null) at the end. */
  private move(row: Element, before: Element | null): void {
    const focused = row.contains(document.activeElement) ? (document.activeElement as HTMLElement) : null;
    this.node.insertBefore(row, before);
    focused?.focus({ preventScroll: true });
  }

  private rowOf(item: Item, index: number): HTMLElement {
    const shown = this.shown.get(item.id);
    const values = item.kind === 'group' ? this.actions.values(item) : null;
    const mark = stamp(item, values);
    const isSame = shown?.stamp === mark && shown.look === this.lookNumber;
    if (shown && (isSame || shown.node === this.held)) {
      shown.index = index;
      return shown.node;
    }
    const node = buildRow(item, this.look, this.actions, values);
    node.tabIndex = -1;
    if (shown) {
      const focused = shown.node.contains(document.activeElement);
      shown.node.replaceWith(node);
      if (focused) {
        node.focus({ preventScroll: true });
      }
    }
    this.shown.set(item.id, { node, index, stamp: mark, look: this.lookNumber });
    return node;
  }
}

function rowAt(node: Node | null): Element | null {
  const from = node instanceof Element ? node : (node?.parentElement ?? null);
  return from?.closest('.lm-row') ?? null;
}
