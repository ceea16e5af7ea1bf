/**
 * The ES module that the kernel's anywidget loads: a live view under a cell. A page has one session for
 * all cells and widgets of a kernel; the first widget's model carries its messages.
 */
import type { ITransport } from '../core/api';
import { sessionOf } from '../core/session';
import { LogView } from '../view/logview';
import { hideSnapshot } from '../view/snapshot';

type Callback = (...values: never[]) => void;

/** What is used of a widget's model. */
export interface Model {
  get(name: string): unknown;
  on(event: string, callback: Callback): void;
  off(event: string, callback: Callback): void;
  send(content: object, callbacks?: unknown, buffers?: ArrayBuffer[]): void;
  /** False: its kernel's side is gone. The event `comm_live_update` tells of changes. */
  readonly comm_live?: boolean;
}

export interface RenderContext {
  /** The widget's own model: `session` and `cell`. */
  model: Model;
  el: HTMLElement;
  /** The model whose custom messages carry the session's protocol. */
  hub: Model;
}

class ModelTransport implements ITransport {
  private readonly undo: (() => void)[] = [];

  constructor(private readonly model: Model) {}

  send(message: object): void {
    this.model.send(message);
  }

  onMessage(listener: (data: unknown, buffer: DataView | null) => void): void {
    this.listen('msg:custom', (content: unknown, buffers: readonly (DataView | ArrayBuffer)[] | undefined) => {
      const buffer = buffers?.[0];
      listener(content, buffer === undefined ? null : buffer instanceof DataView ? buffer : new DataView(buffer));
    });
  }

  onClose(listener: () => void): void {
    let closed = false;
    const close = (): void => {
      if (!closed) {
        closed = true;
        this.dispose();
        listener();
      }
    };
    this.listen('comm:close', close);
    this.listen('destroy', close);
    // At a restart of the kernel no comm is closed: the manager only marks its models.
    this.listen('comm_live_update', () => {
      if (this.model.comm_live === false) {
        close();
      }
    });
  }

  dispose(): void {
    this.undo.forEach(undo => undo());
    this.undo.length = 0;
  }

  private listen(event: string, callback: Callback): void {
    this.model.on(event, callback);
    this.undo.push(() => this.model.off(event, callback));
  }
}

/**
 * Shows the view in `el`; gives what takes it away. Until the kernel has answered once, the view stays
 * hidden and the cell's static snapshot in sight: in a notebook opened without its kernel it never does.
 */
export function render({ model, el, hub }: RenderContext): () => void {
  const id = String(model.get('session'));
  const cell = model.get('cell') as number | null;
  const session = sessionOf(id);
  if (!session.connected && hub.comm_live !== false) {
    session.attach(new ModelTransport(hub));
  }
  const view = new LogView({ session, cell });
  let showSnapshot: (() => void) | null = null;
  const update = (): void => {
    view.node.hidden = session.state === null;
    if (!view.node.hidden) {
      showSnapshot ??= hideSnapshot(id, cell);
    }
  };
  update();
  const undo = session.on('state', update);
  el.append(view.node);
  return () => {
    undo();
    showSnapshot?.();
    view.dispose();
  };
}
