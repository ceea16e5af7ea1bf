/** The links of all kernel connections that this page's notebooks and consoles hold. */
import type { ISessionContext } from '@jupyterlab/apputils';
import type { Kernel } from '@jupyterlab/services';
import { Signal, type ISignal } from '@lumino/signaling';
import { KernelLink } from './kernel_link';

export class SessionLinks {
  /** Links every kernel connection that the context has, from now until it is disposed. */
  watch(context: ISessionContext): void {
    context.kernelChanged.connect((_, { newValue }) => this.link(newValue, context));
    this.link(context.session?.kernel ?? null, context);
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

  /** An output in the context's document names a session: connect to it if its kernel, the present one or
   * one that the context gets later, has it. Outputs may be there before the kernel. */
  expect(context: ISessionContext, session: string): void {
    const sessions = this.expected.get(context) ?? new Set();
    this.expected.set(context, sessions.add(session));
    this.tell(context.session?.kernel ?? null, [session]);
  }

  private tell(to: Kernel.IKernelConnection | null, sessions: Iterable<string>): void {
    for (const [kernel, link] of this.links) {
      if (kernel.id === to?.id) {
        for (const session of sessions) {
          link.expect(session);
        }
      }
    }
  }

  private link(kernel: Kernel.IKernelConnection | null, context: ISessionContext): void {
    if (kernel !== null && !kernel.isDisposed && !this.links.has(kernel)) {
      const link = new KernelLink(kernel);
      this.links.set(kernel, link);
      link.changed.connect(() => this.signal.emit());
      kernel.disposed.connect(() => this.links.delete(kernel));
    }
    this.tell(kernel, this.expected.get(context) ?? []);
    this.signal.emit();
  }

  /** The sessions that the outputs of each document name. */
  private readonly expected = new WeakMap<ISessionContext, Set<string>>();
  private readonly links = new Map<Kernel.IKernelConnection, KernelLink>();
  private readonly signal = new Signal<this, void>(this);
}
