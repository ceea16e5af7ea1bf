/**
 * Requests that wait for the kernel's reply, and files that come in parts. Messages may be lost: what
 * may be asked twice is sent again, all else is given up at last.
 */
import type { FileMessage, ReplyMessage, Request, RequestMessage } from './protocol';
import type { Scheduler } from './scheduler';

const TICK_MS = 1000;
/** A request that may be repeated is sent so often, so far apart. */
const AGAIN_MS = 15_000;
const MOST_TIMES = 3;
const GIVE_UP_MS = 30_000;
/** A file may be long in the making before its first part comes. */
const GIVE_UP_FILE_MS = 120_000;

export interface AskOptions {
  /** Asks for a file: called with how much of it is here, 0..1. */
  progress?: (part: number) => void;
  /** It does no harm to be heard twice, and may be sent again. */
  repeat?: boolean;
}

interface Pending {
  resolve(reply: ReplyMessage): void;
  reject(error: Error): void;
  /** What it was sent over. */
  way: object;
  send(): void;
  /** How often it may still be sent. */
  left: number;
  /** For how long to wait for an answer each time, and for how long we have by now. */
  patience: number;
  waited: number;
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
  private stopClock: (() => void) | null = null;

  /** `hears` tells whether the kernel can hear at present; while it cannot, no time is counted. */
  constructor(
    private readonly session: string,
    private readonly scheduler: Scheduler,
    private readonly hears: () => boolean
  ) {
    const words = crypto.getRandomValues(new Uint32Array(3));
    this.prefix = [...words].map(word => word.toString(36)).join('');
  }

  /** Send a request by `send`; the reply, or why there is none. Errors are what the kernel said. */
  ask(
    request: Request,
    way: object,
    send: (message: RequestMessage) => void,
    { progress, repeat = false }: AskOptions = {}
  ): { id: string; reply: Promise<ReplyMessage> } {
    const id = `${this.prefix}-${++this.count}`;
    if (progress !== undefined) {
      this.downloads.set(id, { parts: [], have: 0, name: '', mime: '', progress });
    }
    const message: RequestMessage = { ...request, logmesh: 1, session: this.session, id };
    const reply = new Promise<ReplyMessage>((resolve, reject) => {
      this.pending.set(id, {
        resolve, reject, way,
        send: () => send(message),
        left: repeat ? MOST_TIMES : 1,
        patience: repeat ? AGAIN_MS : progress === undefined ? GIVE_UP_MS : GIVE_UP_FILE_MS,
        waited: 0
      });
    });
    this.send(id);
    this.startClock();
    return { id, reply };
  }

  /** Messages were lost; answers may be among them. What may be repeated is sent again soon. */
  hurry(): void {
    for (const pending of this.pending.values()) {
      if (pending.left > 0) {
        pending.waited = pending.patience;
      }
    }
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
    const pending = this.pending.get(message.id);
    if (pending !== undefined) {
      pending.waited = 0;
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

  private send(id: string): void {
    const pending = this.pending.get(id);
    if (pending === undefined) {
      return;
    }
    pending.left -= 1;
    pending.waited = 0;
    try {
      pending.send();
    } catch (error) {
      this.fail(id, error instanceof Error ? error : new Error(String(error)));
    }
  }

  private startClock(): void {
    if (this.pending.size > 0) {
      this.stopClock ??= this.scheduler.later(() => {
        this.stopClock = null;
        if (this.hears()) {
          this.tick();
        }
        this.startClock();
      }, TICK_MS);
    }
  }

  private tick(): void {
    for (const [id, pending] of [...this.pending]) {
      pending.waited += TICK_MS;
      if (pending.waited < pending.patience) {
        continue;
      }
      if (pending.left > 0) {
        this.send(id);
      } else {
        const seconds = pending.patience / 1000;
        this.fail(id, new Error(`the kernel has not answered for ${seconds} seconds; try again`));
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
