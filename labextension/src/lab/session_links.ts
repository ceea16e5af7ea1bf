/** The links of all kernel connections that this page's notebooks and consoles hold. */
import type { ISessionContext } from '@jupyterlab/apputils';
import type { Kernel } from '@jupyterlab/services';
import { Signal, type ISignal } from '@lumino/signaling';
import { KernelLink } from './kernel_link';

export class SessionLinks {
  /** Links every kernel connection that the context has, from now until it is disposed. */
  watch(context: ISessionContext): void {
    context.kernelChanged.connect((_, { newValue }) => this.link(newValue));
    this.link(context.session?.kernel ?? null);
  }

  /** Any kernel's sessions may have changed. */
  get changed(): ISignal<this, void> {
    return this.signal;
  }

  /** The newest session of the context's kernel; null: none is known. */
  newest(context: ISessionContext): string | null {
    const id = context.session?.kernel?.id;
    // Of several connections to one kernel only one handles comms, so only one knows sessions.
    for (const [kernel, link] of this.links) {
      if (kernel.id === id && link.newest !== null) {
        return link.newest;
      }
    }
    return null;
  }

  /** An output in the context's document names a session: connect to it if its kernel has it. */
  expect(context: ISessionContext, session: string): void {
    const id = context.session?.kernel?.id;
    for (const [kernel, link] of this.links) {
      if (kernel.id === id) {
        link.expect(session);
      }
    }
  }

  private link(kernel: Kernel.IKernelConnection | null): void {
    if (kernel !== null && !kernel.isDisposed && !this.links.has(kernel)) {
      const link = new KernelLink(kernel);
      this.links.set(kernel, link);
      link.changed.connect(() => this.signal.emit());
      kernel.disposed.connect(() => this.links.delete(kernel));
    }
    this.signal.emit();
  }

  private readonly links = new Map<Kernel.IKernelConnection, KernelLink>();
  private readonly signal = new Signal<this, void>(this);
}
