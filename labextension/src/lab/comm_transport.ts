/** Carries the messages of one session over a comm of JupyterLab. */
import { KernelMessage, type Kernel } from '@jupyterlab/services';
import type { JSONObject } from '@lumino/coreutils';
import type { ITransport } from '../core/api';
import { shellFor, type Shell } from './subshell';

/** It never closes the comm in the kernel: other pages and reloads of this one use it too. */
export class CommTransport implements ITransport {
  constructor(
    private readonly kernel: Kernel.IKernelConnection,
    private readonly comm: Kernel.IComm
  ) {
    comm.onMsg = message => this.listener?.(message.content.data, firstBuffer(message));
    comm.onClose = () => this.close();
    void shellFor(kernel, comm).then(shell => this.open(shell));
  }

  send(message: object): void {
    if (this.closed) {
      return;
    }
    if (this.shell === null) {
      this.waiting.push(message);
      return;
    }
    const { kernel, comm, shell } = this;
    kernel.sendShellMessage(
      KernelMessage.createMessage<KernelMessage.ICommMsgMsg<'shell'>>({
        msgType: 'comm_msg',
        channel: 'shell',
        username: kernel.username,
        session: kernel.clientId,
        ...(shell.id === null ? {} : { subshellId: shell.id }),
        content: { comm_id: comm.commId, data: message as JSONObject }
      }),
      false,
      true
    );
  }

  onMessage(listener: (data: unknown, buffer: DataView | null) => void): void {
    this.listener = listener;
  }

  onClose(listener: () => void): void {
    this.closeListener = listener;
  }

  /** The way to the kernel is gone: tells the listener, once. */
  close(): void {
    if (!this.closed) {
      const told = this.closeListener;
      this.dispose();
      told?.();
    }
  }

  dispose(): void {
    this.closed = true;
    this.listener = null;
    this.closeListener = null;
    this.waiting.length = 0;
    this.shell?.dispose();
    this.shell = null;
  }

  private open(shell: Shell): void {
    if (this.closed) {
      shell.dispose();
      return;
    }
    this.shell = shell;
    for (const message of this.waiting.splice(0)) {
      this.send(message);
    }
  }

  private shell: Shell | null = null;
  private readonly waiting: object[] = [];
  private closed = false;
  private listener: ((data: unknown, buffer: DataView | null) => void) | null = null;
  private closeListener: (() => void) | null = null;
}

function firstBuffer(message: KernelMessage.ICommMsgMsg): DataView | null {
  const buffer = message.buffers?.[0];
  if (buffer === undefined) {
    return null;
  }
  return ArrayBuffer.isView(buffer)
    ? new DataView(buffer.buffer as ArrayBuffer, buffer.byteOffset, buffer.byteLength)
    : new DataView(buffer);
}
