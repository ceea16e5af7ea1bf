/** A page with one grouped list, of a kernel that a test plays. */
import type { Filter, GroupItem, Item, SkipItem } from '../../src/core/api';
import type { SkipMessage } from '../../src/core/protocol';
import { Query } from '../../src/core/query';
import { Session } from '../../src/core/session';
import type { SessionOptions } from '../../src/core/session';
import { FakeKernel, FakeTransport, HandScheduler } from './kernel';

export class GroupedPage {
  readonly scheduler = new HandScheduler();
  readonly transport = new FakeTransport();
  readonly kernel = new FakeKernel();
  readonly session: Session;
  readonly query: Query;

  constructor({ bounds, ...filter }: Pick<SessionOptions, 'bounds'> & Partial<Filter> = {}) {
    this.session = new Session('s', { scheduler: this.scheduler, ...(bounds && { bounds }) });
    this.session.attach(this.transport);
    this.state(null, 1);
    this.query = new Query(this.session, filter);
    this.query.setGrouped(true);
  }

  /** The mesh's window, and the cell that runs or ran last. */
  state(window: number | null, cell: number): void {
    this.transport.receive({
      logmesh: 1, session: 's', n: ++this.kernel.n, type: 'state', mesh: 'running', host: 'h', atOnce: true,
      rows: 0, cell, busy: false, trouble: '', mode: { stream: true, window, level: 20, autoflush: true }
    });
    this.scheduler.run(20);
  }

  /** Live rows come. */
  give(first: number, end: number, skips: SkipMessage[] = []): void {
    const { message, buffer } = this.kernel.rows(first, end, { live: true, skips });
    this.transport.receive(message, buffer);
    this.scheduler.run(20);
  }

  /** Rows come that were asked for. */
  bring(first: number, end: number): void {
    const { message, buffer } = this.kernel.rows(first, end);
    this.transport.receive(message, buffer);
    this.scheduler.run(20);
  }

  filter(change: Partial<Filter>): void {
    this.query.setFilter(change);
    this.scheduler.run(100);
  }

  get items(): Item[] {
    return Array.from({ length: this.query.length }, (_, index) => this.query.item(index));
  }

  get groups(): GroupItem[] {
    return this.items.filter(item => item.kind === 'group');
  }

  get skips(): SkipItem[] {
    return this.items.filter(item => item.kind === 'skip');
  }
}
