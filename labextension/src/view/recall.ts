/**
 * A page that was loaded again holds the last lines of the session only. The lines of an earlier cell are
 * brought, once, when its view is in sight and holds none of them.
 */
import type { IQuery, ISession, SkipItem } from '../core/api';

export const RECALL_LINES = 5000;
/** A session's history may come in several messages: what is not here after that time is not on its way. */
const PAUSE_MS = 300;

export class Recall {
  private inSight = typeof IntersectionObserver === 'undefined';
  private done = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly observer: IntersectionObserver | null = null;

  constructor(
    node: HTMLElement,
    private readonly session: ISession,
    private readonly query: IQuery,
    private readonly failed: (error: unknown) => void
  ) {
    if (!this.inSight) {
      this.observer = new IntersectionObserver(entries => {
        this.inSight = entries[entries.length - 1]?.isIntersecting === true;
        this.update();
      });
      this.observer.observe(node);
    }
  }

  dispose(): void {
    this.end();
  }

  /** The query may have changed. Cheap: it may be called each frame. */
  update(): void {
    if (this.isWanted()) {
      this.timer ??= setTimeout(() => this.bring(), PAUSE_MS);
    }
  }

  /** Whether there are lines to bring; where some are held it ends the recall. */
  private isWanted(): boolean {
    const { query } = this;
    if (this.done || query.working) {
      return false;
    }
    if (query.shown + query.hidden > 0) {
      this.end();
      return false;
    }
    return this.inSight && query.notHeld > 0;
  }

  private bring(): void {
    this.timer = undefined;
    const skip = this.isWanted() ? this.lastSkip() : null;
    if (skip !== null && !skip.loading && this.session.connected) {
      this.end();
      this.session.fetch(Math.max(skip.first, skip.end - RECALL_LINES), skip.end).catch(this.failed);
    }
  }

  private lastSkip(): SkipItem | null {
    for (let index = this.query.length - 1; index >= 0; index -= 1) {
      const item = this.query.item(index);
      if (item.kind === 'skip' && item.lines > 0) {
        return item;
      }
    }
    return null;
  }

  private end(): void {
    this.done = true;
    clearTimeout(this.timer);
    this.observer?.disconnect();
  }
}
