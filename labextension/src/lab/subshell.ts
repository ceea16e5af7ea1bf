/**
 * Which shell of a kernel hears us while a cell runs.
 *
 * An ipykernel 7.1+ handles a message on the subshell whose id stands in the message's header
 * (`subshell_id`), beside the cell that runs in the main shell. JupyterLab's CommHandler makes one
 * subshell per comm target and kernel as soon as `kernel.info` is there, no matter whether the kernel
 * opened the comm (a comm target's callback) or `createComm` made it, and puts its id into what
 * `comm.send` sends. Two things are left to do here:
 *
 * - What is sent before that subshell is there would go to the main shell, so the first message
 *   waits for {@link shellFor}.
 * - A page that is loaded while a cell runs gets no `kernel.info` before the cell ends: it is asked for
 *   through the main shell. The control channel is served by a thread of its own, so there we ask it
 *   for its features and for a subshell of our own.
 *
 * Kernels without subshells (ipykernel 6) hear comm messages when the cell has ended.
 */
import { KernelMessage, type Kernel } from '@jupyterlab/services';
import type { JSONObject } from '@lumino/coreutils';

/** How long a kernel that is not blocked takes at most to answer. */
const ANSWER_MS = 300;
/** How long the control channel may take; a kernel that is slower is treated as one without subshells. */
const CONTROL_MS = 3000;
const FEATURE = 'kernel subshells';

/** The part of JupyterLab's CommHandler that Kernel.IComm does not declare. */
interface SubshellComm extends Kernel.IComm {
  readonly subshellId: string | null;
  readonly subshellStarted: Promise<void>;
}

/** Where to send: the id of a subshell, or null for the main shell. */
export interface Shell {
  id: string | null;
  /** Gives the subshell back to the kernel, if it was made by {@link shellFor} itself. */
  dispose(): void;
}

const MAIN: Shell = { id: null, dispose: () => undefined };

/** Finds the shell for a comm's messages; never rejects. */
export async function shellFor(kernel: Kernel.IKernelConnection, comm: Kernel.IComm): Promise<Shell> {
  try {
    const info = await within(kernel.info, ANSWER_MS);
    if (info === null) {
      return await ownSubshell(kernel);
    }
    if (hasSubshells(info) && isSubshellComm(comm)) {
      await within(comm.subshellStarted, CONTROL_MS);
      return { ...MAIN, id: comm.subshellId };
    }
  } catch {
    // The kernel is going away, or it refuses: the main shell is what is left.
  }
  return MAIN;
}

/** Sends a request on the control channel, which is served while a cell runs. Resolves with the reply's
 * content, or null if none comes in time. For message types that the kernel serves on its shell too. */
export async function controlRequest(
  kernel: Kernel.IKernelConnection,
  msgType: string,
  content: JSONObject
): Promise<JSONObject | null> {
  const message = KernelMessage.createMessage<KernelMessage.ICreateSubshellRequestMsg>({
    // JupyterLab's types know these requests on the shell only; the wire protocol is the same.
    msgType: msgType as 'create_subshell_request',
    channel: 'control',
    username: kernel.username,
    session: kernel.clientId,
    content
  });
  const future = kernel.sendControlMessage(message, true, true);
  const reply = await within(future.done, CONTROL_MS);
  return reply === null ? null : (reply.content as unknown as JSONObject);
}

async function ownSubshell(kernel: Kernel.IKernelConnection): Promise<Shell> {
  const info = await controlRequest(kernel, 'kernel_info_request', {});
  if (info === null || !hasSubshells(info)) {
    return MAIN;
  }
  const reply = await controlRequest(kernel, 'create_subshell_request', {});
  const id = reply?.['subshell_id'];
  if (typeof id !== 'string') {
    return MAIN;
  }
  return {
    id,
    dispose: () => {
      if (!kernel.isDisposed && kernel.status !== 'dead') {
        void controlRequest(kernel, 'delete_subshell_request', { subshell_id: id }).catch(() => undefined);
      }
    }
  };
}

/** Whether a kernel whose `kernel_info_reply` this is has them. */
export function hasSubshells(info: object): boolean {
  const features = (info as { supported_features?: unknown }).supported_features;
  return Array.isArray(features) && features.includes(FEATURE);
}

function isSubshellComm(comm: Kernel.IComm): comm is SubshellComm {
  return 'subshellStarted' in comm && 'subshellId' in comm;
}

async function within<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<null>(resolve => {
    timer = setTimeout(() => resolve(null), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
