/**
 * The sessions behind one kernel connection of this page, and the page's way to them.
 *
 * A session is reached over the comm `logmesh-<session>` that the kernel opens with the target
 * `logmesh_ipy`. A page that was not there then learns of it in three ways: the kernel lists its comms
 * when asked; an output names a session (then the list is asked for where a running cell cannot hold
 * up the answer); a message of the comm comes by. Whichever is first makes the comm's object in this
 * page; none is made for a session that the kernel does not have (an old output names those too).
 *
 * A kernel with subshells is asked on its control channel: an ipykernel 7 before 7.4 may never read what
 * reaches its shell while it replies there, and that could be the user's first cell.
 */
import type { Kernel, KernelMessage } from '@jupyterlab/services';
import type { IDisposable } from '@lumino/disposable';
import { Signal, type ISignal } from '@lumino/signaling';
import { isKernelMessage } from '../core/protocol';
import { sessionOf } from '../core/session';
import { CommTransport } from './comm_transport';
import { controlRequest, hasSubshells } from './subshell';

export const COMM_TARGET = 'logmesh_ipy';
const COMM_PREFIX = 'logmesh-';

/** Messages that only the kernel's process sends; others may be the server's, which has a session of its
 * own in their headers: `status`, and the `stream` that tells of too much output. */
const OF_KERNEL: ReadonlySet<string> = new Set([
  'comm_open',
  'comm_msg',
  'comm_close',
  'execute_input',
  'execute_result',
  'display_data'
]);

/** What a kernel that had sessions says of itself when it has none any more. */
const ENDED: ReadonlySet<Kernel.Status> = new Set(['starting', 'restarting', 'autorestarting', 'terminating', 'dead']);

interface Open {
  comm: Kernel.IComm;
  transport: CommTransport;
}

export class KernelLink implements IDisposable {
  constructor(private readonly kernel: Kernel.IKernelConnection) {
    kernel.registerCommTarget(COMM_TARGET, this.onCommOpen);
    kernel.iopubMessage.connect(this.onIOPub, this);
    kernel.statusChanged.connect(this.onStatus, this);
    kernel.connectionStatusChanged.connect(this.onConnection, this);
    kernel.disposed.connect(this.dispose, this);
    if (kernel.connectionStatus === 'connected') {
      this.ask();
    }
  }

  /** A session has come, gone, or lost its connection. */
  get changed(): ISignal<this, void> {
    return this.signal;
  }

  /** The session that the kernel began last; null: none is known. */
  get newest(): string | null {
    return this.latest;
  }

  /** An output says that the session exists (or has existed): connect to it if the kernel has it. */
  expect(session: string): void {
    if (this.opens.has(session) || this.expected.has(session) || this.isDisposed) {
      return;
    }
    this.expected.add(session);
    if (this.kernel.connectionStatus === 'connected') {
      this.askAtOnce();
    }
  }

  get isDisposed(): boolean {
    return this.done;
  }

  dispose(): void {
    if (this.done) {
      return;
    }
    this.done = true;
    Signal.disconnectReceiver(this);
    this.kernel.removeCommTarget(COMM_TARGET, this.onCommOpen);
    this.forget();
    Signal.clearData(this);
  }

  private readonly onCommOpen = (comm: Kernel.IComm): void => {
    this.open(comm);
  };

  private onIOPub(_: Kernel.IKernelConnection, message: KernelMessage.IIOPubMessage): void {
    const { msg_type: type, session: life } = message.header;
    if (OF_KERNEL.has(type) && life !== this.life) {
      // A restart from another page may pass unseen; then the first that the new kernel prints tells.
      if (this.life !== null) {
        this.forget();
      }
      this.life = life;
    }
    if (type === 'comm_msg') {
      const { comm_id: commId, data } = (message as KernelMessage.ICommMsgMsg<'iopub'>).content;
      if (isKernelMessage(data)) {
        this.create(commId);
      }
    }
  }

  private onStatus(_: Kernel.IKernelConnection, status: Kernel.Status): void {
    if (ENDED.has(status)) {
      this.forget();
    }
  }

  /** A connection that comes back may have missed anything: each session begins anew with a hello. */
  private onConnection(_: Kernel.IKernelConnection, status: Kernel.ConnectionStatus): void {
    if (status !== 'connected') {
      for (const { transport } of this.opens.values()) {
        transport.close();
      }
      this.signal.emit();
      return;
    }
    for (const [session, { comm }] of [...this.opens]) {
      this.opens.delete(session);
      if (!comm.isDisposed) {
        this.open(comm);
      }
    }
    this.ask();
    if (this.expected.size > 0) {
      this.askAtOnce();
    }
  }

  /** Asks for the list as soon as the kernel answers at all: when its cell has ended. */
  private ask(): void {
    void this.list()
      .then(content => this.learn(content))
      .catch(() => undefined); // the connection has gone; the next one asks again
  }

  private askAtOnce(): void {
    void this.listByControl()
      .then(content => this.learn(content ?? {}))
      .catch(() => undefined);
  }

  private async list(): Promise<object> {
    const { kernel } = this;
    const content = hasSubshells(await kernel.info) ? await this.listByControl() : null;
    return content ?? (await kernel.requestCommInfo({ target_name: COMM_TARGET })).content;
  }

  private listByControl(): Promise<object | null> {
    return controlRequest(this.kernel, 'comm_info_request', { target_name: COMM_TARGET });
  }

  private learn(info: object): void {
    const { comms } = info as { comms?: Record<string, unknown> };
    for (const commId of Object.keys(comms ?? {})) {
      this.create(commId);
    }
  }

  /** Makes this page's object for a comm that the kernel has already. */
  private create(commId: string): void {
    const { kernel } = this;
    if (!this.done && commId.startsWith(COMM_PREFIX) && kernel.handleComms && !kernel.hasComm(commId)) {
      this.open(kernel.createComm(COMM_TARGET, commId));
    }
  }

  private open(comm: Kernel.IComm): void {
    const session = sessionIn(comm.commId);
    this.opens.get(session)?.transport.close();
    const transport = new CommTransport(this.kernel, comm);
    this.opens.set(session, { comm, transport });
    this.expected.delete(session);
    this.latest = session;
    sessionOf(session).attach(transport);
    this.signal.emit();
  }

  private forget(): void {
    for (const { comm, transport } of this.opens.values()) {
      transport.close();
      comm.dispose();
    }
    this.opens.clear();
    this.expected.clear();
    this.latest = null;
    this.signal.emit();
  }

  private readonly opens = new Map<string, Open>();
  private readonly expected = new Set<string>();
  private readonly signal = new Signal<this, void>(this);
  private latest: string | null = null;
  /** The id that the kernel's process gives to its messages. */
  private life: string | null = null;
  private done = false;
}

function sessionIn(commId: string): string {
  return commId.slice(COMM_PREFIX.length);
}
