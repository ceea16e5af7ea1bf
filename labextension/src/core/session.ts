/**
 * One kernel session on one page: what the kernel has told, over whatever transport, and what it is
 * asked. All views of a page share it, those of other bundles too ({@link sessionOf}).
 */
import type { ISession, ITransport, Proc, Receipt, SessionEvents, Source } from './api';
import { Emitter } from './emitter';
import { Greeter } from './greeter';
import type { Greeted } from './greeter';
import { Intake } from './intake';
import type { Bounds, LineStore } from './lines';
import { ProcTable } from './procs';
import { isKernelMessage } from './protocol';
import type {
  KernelMessage,
  LiveMessage,
  Mode,
  ReplyMessage,
  Request,
  RowsMessage,
  StateMessage,
  ValuesOf
} from './protocol';
import { Requests } from './requests';
import type { AskOptions } from './requests';
import { systemScheduler } from './scheduler';
import type { Scheduler } from './scheduler';
import { Sources } from './sources';
import { Templates } from './templates';

/** A session without connection keeps its rows for so long when no list needs them any more. */
const REST_MS = 5000;
const REMEMBERED_NUMBERS = 512;

/** What queries need to hear besides {@link SessionEvents}. */
export interface CoreEvents extends SessionEvents {
  rows: void;
  live: void;
}

export interface SessionOptions {
  scheduler?: Scheduler;
  bounds?: Bounds;
  /** Called when it has no connection and nobody needs it any more. */
  onRetire?: (session: Session) => void;
}

export class Session extends Emitter<CoreEvents> implements ISession, Greeted {
  readonly scheduler: Scheduler;
  readonly people = new Sources();
  readonly templates = new Templates();
  private intake: Intake;
  private readonly requests: Requests;
  private readonly greeter: Greeter;
  private readonly table = new ProcTable();
  private readonly receipts = new Map<number, Receipt>();
  private readonly transports: ITransport[] = [];
  private readonly numbers = new Set<number>();
  private newest = -1;
  private told: StateMessage | null = null;
  private lastProof: Receipt | null = null;
  private liveLines: LiveMessage['lines'] = [];
  private lists = 0;
  private stopRest: (() => void) | null = null;

  constructor(
    readonly id: string,
    private readonly options: SessionOptions = {}
  ) {
    super();
    this.scheduler = options.scheduler ?? systemScheduler;
    this.requests = new Requests(id, this.scheduler, () => this.hears);
    this.greeter = new Greeter(this, this.scheduler);
    this.intake = this.newIntake();
  }

  get store(): LineStore {
    return this.intake.store;
  }

  get connected(): boolean {
    return this.transports.length > 0;
  }

  get state(): Readonly<StateMessage> | null {
    return this.told;
  }

  get mode(): Readonly<Mode> | null {
    return this.told?.mode ?? null;
  }

  get sources(): ReadonlyMap<number, Source> {
    return this.people.byId;
  }

  get procs(): readonly Proc[] {
    return this.table.at(this.scheduler.now());
  }

  get lastReceipt(): Receipt | null {
    return this.lastProof;
  }

  get rows(): number {
    return Math.max(this.told?.rows ?? 0, this.store.end);
  }

  get rate(): number {
    return this.procs.reduce((sum, proc) => sum + proc.rate, 0);
  }

  get errors(): number {
    return this.intake.errors;
  }

  /** The unfinished lines as the kernel told them last, but for those that rows show. */
  get live(): LiveMessage['lines'] {
    return this.liveLines;
  }

  get way(): ITransport | undefined {
    return this.transports[this.transports.length - 1];
  }

  get known(): boolean {
    return this.told !== null;
  }

  get hears(): boolean {
    return this.told === null || !this.told.busy || this.told.atOnce;
  }

  receipt(cell: number): Receipt | null {
    return this.receipts.get(cell) ?? null;
  }

  /** Hear and ask the kernel over a transport, until it closes. The newest that is open is asked. */
  attach(transport: ITransport): void {
    if (this.transports.includes(transport)) {
      return;
    }
    this.transports.push(transport);
    transport.onMessage((data, buffer) => {
      if (isKernelMessage(data) && data.session === this.id) {
        this.greeter.hear(transport, data.type === 'state');
        this.receive(data, buffer);
      }
    });
    transport.onClose(() => this.detach(transport));
    this.greeter.begin(transport);
    this.emit('state', undefined);
  }

  async hello(way: ITransport): Promise<void> {
    const { store } = this;
    // Nothing, as long as the session's first rows are not known of: what tells of them may be lost.
    const have = this.told === null ? 0 : store.firstUnknown(this.told.firstRow ?? 0, store.end);
    await this.requests.ask({ type: 'hello', have }, way, message => way.send(message)).reply;
  }

  /** A list over the rows begins; gives what tells its end. */
  use(): () => void {
    this.lists += 1;
    return () => {
      this.lists -= 1;
      this.restSoon();
    };
  }

  async request(request: Request): Promise<string> {
    return (await this.ask(request).reply).text ?? '';
  }

  async fetch(first: number, end: number, whole = false): Promise<void> {
    this.store.keep(first, end);
    const stopLoading = this.store.startLoading(first, end);
    this.emit('rows', undefined);
    try {
      for (let from = first; from < end; ) {
        const next = await this.fetchPage(from, end, whole, true);
        if (next <= from) {
          return;
        }
        from = next;
      }
    } finally {
      stopLoading();
      this.emit('rows', undefined);
    }
  }

  async download(
    format: 'text' | 'jsonl' | 'parquet',
    cell: number | null,
    ranks: number[] | null,
    progress: (part: number) => void
  ): Promise<{ name: string; blob: Blob }> {
    const { id, reply } = this.ask({ type: 'download', format, cell, ranks }, { progress });
    await reply;
    return this.requests.file(id);
  }

  async values(of: ValuesOf): ReturnType<ISession['values']> {
    const { reply } = this.ask({ type: 'values', ...of }, { repeat: true });
    const { values = [], lines = 0, whole = false } = await reply;
    return { values, lines, whole };
  }

  private newIntake(): Intake {
    return new Intake(
      this.people,
      this.templates,
      this.scheduler,
      (first, end) => void this.fetchPage(first, end, false, false).catch(() => undefined),
      this.options.bounds
    );
  }

  private ask(
    request: Request,
    options?: AskOptions
  ): { id: string; reply: Promise<ReplyMessage> } {
    const way = this.way;
    if (way === undefined) {
      return { id: '', reply: Promise.reject(new Error('there is no connection to the kernel')) };
    }
    return this.requests.ask(request, way, message => way.send(message), options);
  }

  /** Fetch what one answer brings; where the next has to begin. */
  private async fetchPage(
    first: number,
    end: number,
    whole: boolean,
    repeat: boolean
  ): Promise<number> {
    const request: Request = whole
      ? { type: 'fetch', first, end, whole }
      : { type: 'fetch', first, end };
    return (await this.ask(request, { repeat }).reply).next ?? end;
  }

  private detach(transport: ITransport): void {
    const at = this.transports.indexOf(transport);
    if (at >= 0) {
      this.transports.splice(at, 1);
      this.greeter.forget(transport);
      this.requests.close(transport);
      if (!this.connected && this.liveLines.length > 0) {
        this.liveLines = [];
        this.emit('live', undefined);
      }
      this.emit('state', undefined);
      this.restSoon();
    }
  }

  /** Without connection and lists, give up the rows after a while; without listeners, retire. */
  private restSoon(): void {
    this.stopRest?.();
    this.stopRest = this.scheduler.later(() => {
      this.stopRest = null;
      if (this.connected || this.lists > 0) {
        return;
      }
      this.intake.dispose();
      this.intake = this.newIntake();
      if (!this.isHeard) {
        this.options.onRetire?.(this);
      }
    }, REST_MS);
  }

  private receive(message: KernelMessage, buffer: DataView | null): void {
    if (!this.isNew(message.n)) {
      return; // came over another transport
    }
    switch (message.type) {
      case 'rows':
        this.takeRows(message, buffer);
        break;
      case 'live':
        this.liveLines = this.intake.takeLive(message.lines);
        this.emit('live', undefined);
        break;
      case 'state':
        this.told = message;
        for (const [cell, text, complete] of message.receipts ?? []) {
          this.takeReceipt({ cell, text, complete });
        }
        this.emit('state', undefined);
        break;
      case 'procs':
        this.table.update(message, this.scheduler.now());
        for (const [id, rank, job, host, pid] of message.procs) {
          this.people.learn([id, rank, job, host, pid]);
        }
        this.emit('procs', undefined);
        break;
      case 'receipt':
        this.takeReceipt(message);
        break;
      case 'reply':
        this.requests.answer(message);
        break;
      case 'file':
        this.requests.receive(message, buffer);
        break;
    }
  }

  /** Whether a message of this number has not come yet. A gap before it makes us greet again. */
  private isNew(n: number): boolean {
    if (this.numbers.has(n)) {
      return false;
    }
    this.numbers.add(n);
    if (this.numbers.size > REMEMBERED_NUMBERS) {
      for (const oldest of this.numbers) {
        this.numbers.delete(oldest);
        break;
      }
    }
    if (this.newest >= 0 && n > this.newest + 1) {
      this.requests.hurry();
      this.greeter.soon();
    }
    this.newest = Math.max(this.newest, n);
    return true;
  }

  private takeRows(message: RowsMessage, buffer: DataView | null): void {
    let known = true;
    try {
      known = this.intake.take(message, buffer);
    } catch (error) {
      console.error(error); // its rows are missing now, and asked for as such
    }
    if (!known) {
      this.greeter.soon();
    }
    this.emit('rows', undefined);
  }

  private takeReceipt({ cell, text, complete }: Receipt): void {
    const receipt = { cell, text, complete };
    this.receipts.set(cell, receipt);
    if (this.lastProof === null || cell >= this.lastProof.cell) {
      this.lastProof = receipt;
    }
    this.emit('receipt', receipt);
  }
}

const REGISTRY = Symbol.for('logmesh_ipy.sessions.1');

/** The session with an id, one for all bundles on this page. It stays for as long as it has a connection,
 * a list or a listener. */
export function sessionOf(id: string): Session {
  const shared = globalThis as { [REGISTRY]?: Map<string, Session> };
  const sessions = (shared[REGISTRY] ??= new Map<string, Session>());
  let session = sessions.get(id);
  if (session === undefined) {
    session = new Session(id, {
      onRetire: retired => {
        if (sessions.get(id) === retired) {
          sessions.delete(id);
        }
      }
    });
    sessions.set(id, session);
  }
  return session;
}
