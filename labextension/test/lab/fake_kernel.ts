/** A kernel connection as far as a KernelLink sees it; the test answers for the kernel. */
import type { Kernel, KernelMessage } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';

export interface Sent {
  type: string;
  channel: string;
  subshell: string | null;
  content: Record<string, unknown>;
}

export class FakeComm {
  isDisposed = false;
  onMsg: (message: unknown) => void = () => undefined;
  onClose: (message: unknown) => void = () => undefined;
  subshellStarted: Promise<void> = Promise.resolve();
  subshellId: string | null = 'subshell-of-comm';

  constructor(readonly commId: string) {}

  dispose(): void {
    this.isDisposed = true;
  }
}

export class FakeKernel {
  readonly id = 'kernel';
  readonly username = '';
  readonly clientId = 'page';
  readonly iopubMessage = new Signal<this, unknown>(this);
  readonly statusChanged = new Signal<this, Kernel.Status>(this);
  readonly connectionStatusChanged = new Signal<this, Kernel.ConnectionStatus>(this);
  readonly disposed = new Signal<this, void>(this);
  readonly sent: Sent[] = [];
  readonly comms = new Map<string, FakeComm>();
  connectionStatus: Kernel.ConnectionStatus = 'connected';
  status: Kernel.Status = 'idle';
  isDisposed = false;
  handleComms = true;
  features: string[] = ['kernel subshells'];
  /** The comms that the kernel lists, by id. */
  listed: string[] = [];
  /** What its process calls itself. */
  life = 'first';
  /** A cell runs: the main shell answers nothing. */
  blocked = false;
  /** Its control channel answers nothing. */
  deaf = false;
  private target: ((comm: FakeComm, message: unknown) => void) | null = null;

  get info(): Promise<object> {
    return this.blocked ? new Promise(() => undefined) : Promise.resolve({ supported_features: this.features });
  }

  registerCommTarget(_name: string, callback: (comm: FakeComm, message: unknown) => void): void {
    this.target = callback;
  }

  removeCommTarget(): void {
    this.target = null;
  }

  hasComm(commId: string): boolean {
    return this.comms.get(commId)?.isDisposed === false;
  }

  createComm(_target: string, commId: string): FakeComm {
    if (this.hasComm(commId)) {
      throw new Error('Comm is already created');
    }
    const comm = new FakeComm(commId);
    this.comms.set(commId, comm);
    return comm;
  }

  requestCommInfo(): Promise<object> {
    this.sent.push({ type: 'comm_info_request', channel: 'shell', subshell: null, content: {} });
    return this.blocked ? new Promise(() => undefined) : Promise.resolve({ content: this.commInfo() });
  }

  sendShellMessage(message: KernelMessage.IShellMessage): void {
    this.note(message);
  }

  sendControlMessage(message: KernelMessage.IControlMessage): { done: Promise<object> } {
    this.note(message);
    const answers: Record<string, object> = {
      kernel_info_request: { supported_features: this.features },
      comm_info_request: this.commInfo(),
      create_subshell_request: { subshell_id: 'subshell-of-page' },
      delete_subshell_request: {}
    };
    const content = answers[message.header.msg_type] ?? {};
    return { done: this.deaf ? new Promise(() => undefined) : Promise.resolve({ content }) };
  }

  /** The kernel opens a comm. */
  openComm(commId: string): FakeComm {
    const comm = this.createComm('', commId);
    this.target?.(comm, {});
    return comm;
  }

  /** The kernel sends on a comm. */
  say(commId: string, data: object): void {
    const message = { header: { msg_type: 'comm_msg', session: this.life }, content: { comm_id: commId, data } };
    this.comms.get(commId)?.onMsg(message);
    this.iopubMessage.emit(message);
  }

  connect(status: Kernel.ConnectionStatus): void {
    this.connectionStatus = status;
    this.connectionStatusChanged.emit(status);
  }

  asKernel(): Kernel.IKernelConnection {
    return this as unknown as Kernel.IKernelConnection;
  }

  /** The channels on which its comms were asked for. */
  askedOn(): string[] {
    return this.sent.filter(({ type }) => type === 'comm_info_request').map(({ channel }) => channel);
  }

  /** The requests that went to a comm, with the subshell they went to. */
  requests(): { type: unknown; subshell: string | null }[] {
    return this.sent
      .filter(({ type }) => type === 'comm_msg')
      .map(({ content, subshell }) => ({ type: (content['data'] as { type: unknown }).type, subshell }));
  }

  private commInfo(): object {
    return { comms: Object.fromEntries(this.listed.map(id => [id, { target_name: 'logmesh_ipy' }])) };
  }

  private note(message: KernelMessage.IMessage): void {
    const { msg_type: type, subshell_id: subshell } = message.header as { msg_type: string; subshell_id?: string };
    this.sent.push({
      type,
      channel: message.channel,
      subshell: subshell ?? null,
      content: message.content as Record<string, unknown>
    });
  }
}
