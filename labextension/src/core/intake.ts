/**
 * Rows from messages into the store, and what is missing between them. Live messages continue each
 * other; where one does not, the rows between are asked for soon, and once more later. Rows that still
 * do not come stay a skip of which nothing is known.
 */
import { Analysis } from './analysis';
import { settle, withoutMoves } from './carriage';
import { decodeRows } from './decode';
import { errorsOf, LineStore } from './lines';
import type { Bounds } from './lines';
import type { LiveMessage, RowsMessage } from './protocol';
import type { Scheduler } from './scheduler';
import { Segment } from './segment';
import type { Sources } from './sources';
import type { Templates } from './templates';

const SOON_MS = 200;
const AGAIN_MS = 5000;

export class Intake {
  readonly store: LineStore;
  private readonly analysis: Analysis;
  private liveEnd = -1;
  private readonly errorsBy = new WeakMap<Segment, { count: number; version: number; errors: number }>();
  private errorsAt = -1;
  private errorCount = 0;
  private readonly timers = new Set<() => void>();

  /** `ask` is to fetch rows. */
  constructor(
    private readonly sources: Sources,
    private readonly templates: Templates,
    private readonly scheduler: Scheduler,
    private readonly ask: (first: number, end: number) => void,
    bounds?: Bounds
  ) {
    this.store = new LineStore(sources, templates, bounds);
    this.analysis = new Analysis(this.store);
  }

  /** Take a message. False where a source or a template is unknown. Throws RangeError where it is
   * malformed. */
  take(message: RowsMessage, buffer: DataView | null): boolean {
    for (const source of message.sources) {
      this.sources.learn(source);
    }
    const { relevels, reshapes } = this.templates;
    this.templates.learn(message.templates ?? [], message.n);
    if (this.templates.relevels !== relevels) {
      this.store.relevel();
    }
    if (this.templates.reshapes !== reshapes) {
      this.store.reshape();
    }
    const segments = decodeRows(message, buffer, this.sources, this.templates);
    const known = segments.every(segment => this.knowsTemplates(segment));
    const skips = [...message.skips].sort((one, other) => one.first - other.first);
    // In the order of rows: then rows at the end are only added there.
    for (const segment of segments) {
      for (let skip = skips[0]; skip !== undefined && skip.first < segment.first; skip = skips[0]) {
        this.store.putSkip(skip);
        skips.shift();
      }
      this.store.putLines(segment);
    }
    for (const skip of skips) {
      this.store.putSkip(skip);
    }
    this.analysis.update();
    if (message.live) {
      if (this.liveEnd >= 0 && message.first > this.liveEnd) {
        this.miss(this.liveEnd, message.first);
      }
      this.liveEnd = Math.max(this.liveEnd, message.end);
    }
    return known && message.chunks.every(([source]) => this.sources.knows(source));
  }

  private knowsTemplates({ template, count }: Segment): boolean {
    return template.subarray(0, count).every(id => this.templates.knows(this.templates.find(id)));
  }

  /** Those of the unfinished lines that no row shows. */
  takeLive(lines: LiveMessage['lines']): LiveMessage['lines'] {
    return lines.filter(
      ([id, target, , , text]) =>
        !this.analysis.showUnfinished(this.sources.indexOf(id), target, settle(withoutMoves(text)))
    );
  }

  /** Lines of level ERROR and more, held or known to have been. */
  get errors(): number {
    if (this.errorsAt !== this.store.version) {
      this.errorsAt = this.store.version;
      this.errorCount = 0;
      for (const part of this.store.parts) {
        this.errorCount +=
          part instanceof Segment ? this.errorsIn(part) : part.tells ? part.summary.errorsOf(null) : 0;
      }
    }
    return this.errorCount;
  }

  dispose(): void {
    for (const cancel of this.timers) {
      cancel();
    }
    this.timers.clear();
  }

  private errorsIn(segment: Segment): number {
    const known = this.errorsBy.get(segment);
    if (known?.count === segment.count && known.version === segment.version) {
      return known.errors;
    }
    const { count, version } = segment;
    const errors = errorsOf(segment);
    this.errorsBy.set(segment, { count, version, errors });
    return errors;
  }

  private miss(first: number, end: number): void {
    this.after(SOON_MS, () => {
      if (this.askMissing(first, end)) {
        this.after(AGAIN_MS, () => this.askMissing(first, end));
      }
    });
  }

  /** Ask for what is still missing of a range; whether anything is. */
  private askMissing(first: number, end: number): boolean {
    const missing = this.store.firstUnknown(first, end);
    if (missing < end) {
      this.ask(missing, end);
    }
    return missing < end;
  }

  private after(milliseconds: number, work: () => void): void {
    const cancel = this.scheduler.later(() => {
      this.timers.delete(cancel);
      work();
    }, milliseconds);
    this.timers.add(cancel);
  }
}
