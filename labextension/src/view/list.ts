/**
 * The virtualised list of a query's items: only what is visible is in the document.
 *
 * Invariants: one frame of work per change, however many there are; what is at the top of the view stays
 * there, found again by its item's id, unless the list follows its end.
 */
import type { IQuery } from '../core/api';
import { Cursor } from './cursor';
import { element, Frame } from './dom';
import { Heights } from './heights';
import type { RowActions, RowLook } from './rows';
import { RowWindow } from './rowwindow';

const OVERSCAN_ROWS = 8;
const SIDE_STEP_PIXELS = 40;

export interface ListOptions {
  query: IQuery;
  look: RowLook;
  actions: RowActions;
  /** Height that the list never exceeds by itself; null: it takes what its parent gives. */
  maxHeight: string | null;
  label: string;
  /** Following began or ended. */
  followed(following: boolean): void;
  /** A frame was drawn. */
  drawn(): void;
  /** A key that the list has no use for. */
  key(event: KeyboardEvent): void;
}

export class LogList {
  /** What scrolls. */
  readonly node: HTMLElement;
  private readonly rows: RowWindow;
  private readonly space: HTMLElement;
  private readonly heights = new Heights(18);
  private readonly frame = new Frame(() => this.draw());
  private readonly undo: (() => void)[] = [];
  private readonly sizes: ResizeObserver | null;
  private rowHeight = 18;
  private viewport = 0;
  private widest = 0;
  private wrap = true;
  /** Indices moved since the last frame. */
  private moved = true;
  private follow = true;
  private scrollTop = 0;
  /** The item at the top of the view, and how far its top is above the view's. */
  private anchor: { id: string; index: number; offset: number } | null = null;
  private readonly cursor: Cursor;
  /** The height that the list gave itself: in pixels, and as its style has it. */
  private ownHeight = -1;
  private managedHeight = '';
  /** Somebody dragged the list to another height. */
  private resized = false;
  private disposed = false;

  constructor(private readonly options: ListOptions) {
    this.cursor = new Cursor(options.query);
    this.rows = new RowWindow(options.query, options.look, options.actions, this.cursor, () =>
      this.node.focus({ preventScroll: true })
    );
    this.space = element('div', { class: 'lm-space' }, this.rows.node);
    this.node = element(
      'div',
      { class: 'lm-list', role: 'log', 'aria-live': 'off', 'aria-label': options.label, tabindex: 0 },
      this.space
    );
    if (options.maxHeight !== null) {
      this.node.classList.add('lm-bounded');
    }
    const listen = (name: string, listener: (event: Event) => void, target: EventTarget = this.node): void => {
      target.addEventListener(name, listener);
      this.undo.push(() => target.removeEventListener(name, listener));
    };
    listen('scroll', () => this.scrolled());
    listen('keydown', event => this.keyed(event as KeyboardEvent));
    listen('mousedown', event => this.pressed(event as MouseEvent));
    listen('pointerdown', event => this.rows.hold(event.target as Node));
    for (const end of ['pointerup', 'pointercancel']) {
      listen(end, () => this.released(), document);
    }
    listen('copy', event => this.copied(event as ClipboardEvent));
    listen('selectionchange', () => this.selected(), document);
    this.undo.push(
      options.query.on('grown', () => this.frame.request()),
      options.query.on('changed', () => {
        this.moved = true;
        this.frame.request();
      })
    );
    this.sizes = typeof ResizeObserver === 'undefined' ? null : new ResizeObserver(() => this.measured());
    this.sizes?.observe(this.node);
    this.frame.request();
  }

  dispose(): void {
    this.disposed = true;
    this.frame.cancel();
    this.sizes?.disconnect();
    this.undo.forEach(undo => undo());
  }

  get following(): boolean {
    return this.follow;
  }

  /** Whether the last row is in view. */
  get atEnd(): boolean {
    return this.scrollTop >= this.heights.total - this.viewport - 2;
  }

  setFollowing(follow: boolean): void {
    if (follow !== this.follow) {
      this.follow = follow;
      this.options.followed(follow);
    }
    this.frame.request();
  }

  setWrap(wrap: boolean): void {
    this.wrap = wrap;
    this.node.classList.toggle('lm-wrapped', wrap);
    this.widest = 0;
    this.rows.node.style.minWidth = '';
    this.moved = true;
    this.frame.request();
  }

  /** What rows look like has changed: all are built again. */
  restyle(): void {
    this.rows.restyle();
    this.moved = true;
    this.frame.request();
  }

  /** Brings an item, or what took its place, into view and makes it the current one. */
  goTo(wanted: string, focus = false): void {
    const { query } = this.options;
    const index = query.indexOf(wanted);
    if (index < 0) {
      return;
    }
    const { id } = query.item(index);
    this.setFollowing(false);
    this.setCurrent(id);
    const top = this.heights.before(index);
    const bottom = top + this.heights.get(index);
    if (top < this.scrollTop || bottom > this.scrollTop + this.viewport) {
      const above = Math.max(0, (this.viewport - this.rowHeight) / 3);
      this.anchorAt(Math.max(0, top - above));
    }
    this.draw();
    if (focus) {
      this.rows.row(id)?.focus({ preventScroll: true });
    }
  }

  /** Index of the current row; where there is none: of the top of the view, or behind the end. */
  get currentIndex(): number {
    const index = this.cursor.index;
    return index >= 0 ? index : this.follow ? this.options.query.length : this.heights.find(this.scrollTop) - 1;
  }

  /** What is selected as plain text: by mouse, or as a range of rows; empty: nothing. */
  selection(): string {
    const range = this.cursor.range;
    if (range) {
      return this.cursor.text(range[0], range[1]);
    }
    const selection = document.getSelection();
    if (!selection || selection.isCollapsed || !this.node.contains(selection.anchorNode)) {
      return '';
    }
    const first = this.rows.indexAt(selection.anchorNode);
    const last = this.rows.indexAt(selection.focusNode);
    return first === last || first < 0 || last < 0
      ? selection.toString()
      : this.cursor.text(Math.min(first, last), Math.max(first, last));
  }

  /** The current row's text. */
  currentText(): string {
    return this.cursor.index < 0 ? '' : this.cursor.text(this.cursor.index, this.cursor.index);
  }

  private draw(): void {
    this.frame.cancel();
    if (this.disposed) {
      return;
    }
    const query = this.options.query;
    const length = query.length;
    this.styleOnce();
    if (this.moved) {
      this.moved = false;
      this.cursor.follow();
      this.heights.reset(length, this.rowHeight);
      if (this.anchor) {
        const index = query.indexOf(this.anchor.id);
        this.anchor.index = index >= 0 ? index : Math.min(this.anchor.index, Math.max(0, length - 1));
      }
    } else {
      this.heights.grow(length);
    }
    this.fit();
    const wanted = this.place();
    const first = Math.max(0, this.heights.find(wanted) - OVERSCAN_ROWS);
    const last = Math.min(length, this.heights.find(wanted + this.viewport) + 1 + OVERSCAN_ROWS);
    this.rows.show(first, last);
    this.measureRows();
    this.settle(first);
    this.options.drawn();
  }

  /** Where the view should begin, in pixels. */
  private place(): number {
    const most = Math.max(0, this.heights.total - this.viewport);
    if (this.follow) {
      return most;
    }
    return this.anchor
      ? Math.min(most, Math.max(0, this.heights.before(this.anchor.index) + this.anchor.offset))
      : Math.min(most, this.scrollTop);
  }

  private measureRows(): void {
    const unfolded = this.options.look.unfolded.size > 0;
    if (this.wrap || unfolded) {
      this.rows.measure((index, height) => this.heights.set(index, height));
    }
    if (!this.wrap) {
      const width = this.rows.node.scrollWidth;
      if (width > this.widest) {
        this.widest = width;
        this.rows.node.style.minWidth = `${width}px`;
      }
    }
  }

  /** Puts rows and scroll position where the measured heights say. */
  private settle(first: number): void {
    this.fit();
    this.rows.node.style.transform = `translateY(${this.heights.before(first)}px)`;
    const wanted = this.place();
    if (Math.abs(this.node.scrollTop - wanted) > 0.5) {
      this.node.scrollTop = wanted;
    }
    this.scrollTop = this.node.scrollTop;
    this.anchorAt(this.scrollTop);
  }

  private anchorAt(pixels: number): void {
    const query = this.options.query;
    if (!query.length) {
      this.anchor = null;
      return;
    }
    const index = this.heights.find(pixels);
    this.anchor = { id: query.item(index).id, index, offset: pixels - this.heights.before(index) };
    this.scrollTop = pixels;
  }

  /** Gives the list the height of its rows, where it may choose. */
  private fit(): void {
    const total = this.heights.total;
    this.space.style.height = `${total}px`;
    if (this.options.maxHeight === null || this.resized) {
      return;
    }
    const bar = this.node.offsetHeight - this.node.clientHeight;
    const height = Math.ceil(total + bar);
    if (height !== this.ownHeight) {
      this.ownHeight = height;
      this.node.style.height = `min(${height}px, ${this.options.maxHeight})`;
      this.managedHeight = this.node.style.height;
      this.viewport = this.node.clientHeight;
    }
  }

  private styleOnce(): void {
    if (this.viewport === 0 && this.node.isConnected) {
      this.measureFont();
      this.viewport = this.node.clientHeight;
    }
  }

  private measureFont(): void {
    const size = parseFloat(getComputedStyle(this.node).fontSize) || 13;
    const height = Math.round(size * 1.42);
    if (height !== this.rowHeight) {
      this.rowHeight = height;
      this.moved = true;
    }
    this.node.style.setProperty('--lm-row', `${this.rowHeight}px`);
  }

  /** The list has another size. */
  private measured(): void {
    const set = this.node.style.height;
    if (this.options.maxHeight !== null && !this.resized && this.managedHeight && set !== this.managedHeight) {
      this.resized = true;
    }
    this.measureFont();
    this.viewport = this.node.clientHeight;
    this.moved ||= this.wrap;
    this.frame.request();
  }

  private scrolled(): void {
    const top = this.node.scrollTop;
    if (Math.abs(top - this.scrollTop) < 1) {
      return;
    }
    this.anchorAt(top);
    this.setFollowing(this.atEnd);
  }

  private selected(): void {
    const selection = document.getSelection();
    if (selection && !selection.isCollapsed && this.follow && this.node.contains(selection.anchorNode)) {
      this.setFollowing(false);
    }
  }

  private copied(event: ClipboardEvent): void {
    const text = this.selection();
    if (text) {
      event.clipboardData?.setData('text/plain', text);
      event.preventDefault();
    }
  }

  private pressed(event: MouseEvent): void {
    const index = this.rows.indexAt(event.target as Node);
    if (index < 0 || event.button !== 0) {
      return;
    }
    const extend = event.shiftKey && this.cursor.current !== null;
    if (extend) {
      event.preventDefault();
    }
    this.setCurrent(this.options.query.item(index).id, extend);
  }

  /** Rows may be built again, behind the click that comes of this. */
  private released(): void {
    if (this.rows.hold(null)) {
      this.frame.request();
    }
  }

  private setCurrent(id: string, extend = false): void {
    this.cursor.set(id, extend);
    this.rows.mark();
  }

  private keyed(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const page = Math.max(1, Math.floor(this.viewport / this.rowHeight) - 1);
    const steps: Record<string, number> = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: page,
      PageUp: -page,
      Home: -Infinity,
      End: Infinity
    };
    const step = steps[event.key];
    if (step !== undefined) {
      this.step(step, event.shiftKey);
    } else if (!this.unfoldKey(event)) {
      this.options.key(event);
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  /** Enter, right and left: unfold and fold; where there is nothing to fold, scroll sideways. */
  private unfoldKey({ key, target }: KeyboardEvent): boolean {
    if ((key !== 'Enter' && key !== 'ArrowRight' && key !== 'ArrowLeft') || target instanceof HTMLButtonElement) {
      return false;
    }
    const row = this.rows.row(this.cursor.current);
    const fold = row?.querySelector<HTMLElement>('.lm-fold');
    const open = fold?.getAttribute('aria-expanded') === 'true';
    if (fold && (key === 'Enter' || open === (key === 'ArrowLeft'))) {
      fold.click();
    } else if (key === 'Enter') {
      row?.querySelector<HTMLElement>('.lm-link')?.click();
    } else {
      this.node.scrollLeft += key === 'ArrowRight' ? SIDE_STEP_PIXELS : -SIDE_STEP_PIXELS;
    }
    return true;
  }

  /** Moves the current row; with `extend` the range of chosen rows too. */
  private step(by: number, extend: boolean): void {
    const query = this.options.query;
    if (!query.length) {
      return;
    }
    const to = this.cursor.target(by, this.heights.find(this.scrollTop + (by > 0 ? 0 : this.viewport)));
    const id = query.item(to).id;
    this.setCurrent(id, extend);
    if (to === query.length - 1) {
      this.setFollowing(true);
    } else {
      this.setFollowing(false);
      const top = this.heights.before(to);
      const bottom = top + this.heights.get(to);
      if (top < this.scrollTop) {
        this.anchorAt(top);
      } else if (bottom > this.scrollTop + this.viewport) {
        this.anchorAt(bottom - this.viewport);
      }
    }
    this.draw();
    this.rows.row(id)?.focus({ preventScroll: true });
  }
}
