/** Requests that wait for the kernel's reply, and files that come in parts. */
import type { FileMessage, ReplyMessage, Request, RequestMessage } from './protocol';

interface Pending {
  resolve(reply: ReplyMessage): void;
  reject(error: Error): void;
  /** What it was sent over. */
  way: object;
}

interface Download {
  parts: (Uint8Array<ArrayBuffer> | undefined)[];
  have: number;
  name: string;
  mime: string;
  progress(part: number): void;
}

export class Requests {
  private readonly pending = new Map<string, Pending>();
  private readonly downloads = new Map<string, Download>();
  private readonly prefix: string;
  private count = 0;

  constructor(private readonly session: string) {
    const words = crypto.getRandomValues(new Uint32Array(3));
    this.prefix = [...words].map(word => word.toString(36)).join('');
  }

  /** Send a request by `send`; the reply, or why there is none. Errors are what the kernel said. */
  ask(
    request: Request,
    way: object,
    send: (message: RequestMessage) => void,
    progress?: (part: number) => void
  ): { id: string; reply: Promise<ReplyMessage> } {
    const id = `${this.prefix}-${++this.count}`;
    if (progress !== undefined) {
      this.downloads.set(id, { parts: [], have: 0, name: '', mime: '', progress });
    }
    const reply = new Promise<ReplyMessage>((resolve, reject) => {
      this.pending.set(id, { resolve, reject, way });
    });
    try {
      send({ ...request, logmesh: 1, session: this.session, id });
    } catch (error) {
      this.fail(id, error instanceof Error ? error : new Error(String(error)));
    }
    return { id, reply };
  }

  /** Replies to other pages' requests are not for us. */
  answer(message: ReplyMessage): void {
    const pending = this.pending.get(message.id);
    if (pending === undefined) {
      return;
    }
    this.pending.delete(message.id);
    if (message.ok) {
      pending.resolve(message);
    } else {
      this.downloads.delete(message.id);
      pending.reject(new Error(message.error ?? 'the kernel refused without saying why'));
    }
  }

  /** A part of a file. */
  receive(message: FileMessage, buffer: DataView | null): void {
    const download = this.downloads.get(message.id);
    if (download === undefined || download.parts[message.part] !== undefined) {
      return;
    }
    // A copy: the buffer may be part of a larger one.
    download.parts[message.part] =
      buffer === null
        ? new Uint8Array(0)
        : new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength).slice();
    download.have += 1;
    download.name = message.name;
    download.mime = message.mime;
    download.progress(download.have / Math.max(1, message.parts));
  }

  /** The file of a request that has been answered. Throws where parts of it were lost. */
  file(id: string): { name: string; blob: Blob } {
    const download = this.downloads.get(id);
    this.downloads.delete(id);
    if (download === undefined || download.have === 0 || download.have < download.parts.length) {
      throw new Error('a part of the file was lost on the way; try again');
    }
    const parts = download.parts.filter(part => part !== undefined);
    return { name: download.name, blob: new Blob(parts, { type: download.mime }) };
  }

  /** What was sent over a way that is gone now will not be answered. */
  close(way: object): void {
    for (const [id, pending] of this.pending) {
      if (pending.way === way) {
        this.fail(id, new Error('the connection to the kernel is gone'));
      }
    }
  }

  private fail(id: string, error: Error): void {
    const pending = this.pending.get(id);
    this.pending.delete(id);
    this.downloads.delete(id);
    pending?.reject(error);
  }
}
