/**
 * A page that was loaded again holds the last lines of the session only. The lines of an earlier cell are
 * brought, once, when its view comes into sight and holds none of them.
 */
import type { IQuery, ISession } from '../core/api';

export const RECALL_LINES = 5000;

export class Recall {
  private inSight = typeof IntersectionObserver === 'undefined';
  private done = false;
  private readonly observer: IntersectionObserver | null = null;

  constructor(
    node: HTMLElement,
    private readonly session: ISession,
    private readonly query: IQuery,
    private readonly failed: (error: unknown) => void
  ) {
    if (!this.inSight) {
      this.observer = new IntersectionObserver(entries => {
        this.inSight = entries.some(entry => entry.isIntersecting);
        this.update();
      });
      this.observer.observe(node);
    }
  }

  dispose(): void {
    this.observer?.disconnect();
  }

  /** The query may have changed. Cheap: it may be called each frame. */
  update(): void {
    const { query } = this;
    if (this.done || !this.inSight || !query.length || query.working) {
      return;
    }
    const only = query.length === 1 ? query.item(0) : null;
    if (only?.kind !== 'skip') {
      this.end();
    } else if (!only.loading && this.session.connected) {
      this.end();
      this.session.fetch(Math.max(only.first, only.end - RECALL_LINES), only.end).catch(this.failed);
    }
  }

  private end(): void {
    this.done = true;
    this.observer?.disconnect();
  }
}
