/**
 * When to say hello. A kernel that is busy may hear nothing for hours, and then everything: so greetings
 * are few. One that waits to be heard brings all that is missing by then.
 */
import type { ITransport } from './api';
import type { Scheduler } from './scheduler';

/** A greeting that brings no state is repeated, first so soon, then later and later. */
const AGAIN_MS = 2000;
const MOST_AGAIN_MS = 30_000;
/** Something is missing: how soon to greet for it, and how often at most. */
const GAP_MS = 200;
const GAP_AGAIN_MS = 5000;

/** What a greeter needs to know of its session. */
export interface Greeted {
  /** The transport that is asked. */
  readonly way: ITransport | undefined;
  /** Whether the mesh's state is known. */
  readonly known: boolean;
  /** Whether the kernel hears now what it is asked, as far as known. */
  readonly hears: boolean;
  /** Say hello; settles with the reply. */
  hello(transport: ITransport): Promise<unknown>;
}

interface Way {
  /** Whether anything has come over it, and whether a state has. */
  heard: boolean;
  known: boolean;
  /** The greeting that waits for its reply. */
  waiting: Promise<unknown> | null;
}

export class Greeter {
  private readonly ways = new Map<ITransport, Way>();
  private pending = false;
  private lastForGap = -Infinity;

  constructor(
    private readonly session: Greeted,
    private readonly scheduler: Scheduler
  ) {}

  /** Greet over a transport until a state has come over it. */
  begin(transport: ITransport): void {
    const way: Way = { heard: false, known: false, waiting: null };
    this.ways.set(transport, way);
    let pause = AGAIN_MS;
    let last = -Infinity;
    const greet = (): void => {
      if (way.known || this.ways.get(transport) !== way) {
        return;
      }
      const now = this.scheduler.now();
      // Where anything is heard somebody is there, and the greeting only waits.
      const wait = way.heard ? last + MOST_AGAIN_MS - now : 0;
      if (wait > 0) {
        this.scheduler.later(greet, wait);
        return;
      }
      last = now;
      this.greet(transport, way);
      this.scheduler.later(greet, pause);
      pause = Math.min(2 * pause, MOST_AGAIN_MS);
    };
    greet();
  }

  /** A message has come over a transport. A state answers all greetings, of which the kernel may reply
   * to one only. */
  hear(transport: ITransport, isState: boolean): void {
    const way = this.ways.get(transport);
    if (way !== undefined) {
      way.heard = true;
      way.known ||= isState;
    }
    for (const each of isState ? this.ways.values() : []) {
      each.waiting = null;
    }
  }

  /** A transport has closed. */
  forget(transport: ITransport): void {
    this.ways.delete(transport);
  }

  /** Something is missing: greet again soon. */
  soon(): void {
    if (this.pending) {
      return;
    }
    this.pending = true;
    const wait = Math.max(GAP_MS, this.lastForGap + GAP_AGAIN_MS - this.scheduler.now());
    this.scheduler.later(() => {
      this.pending = false;
      const { way: transport, known, hears } = this.session;
      const way = transport && this.ways.get(transport);
      if (transport !== undefined && way !== undefined && (way.waiting === null || (known && hears))) {
        this.lastForGap = this.scheduler.now();
        this.greet(transport, way);
      }
    }, wait);
  }

  private greet(transport: ITransport, way: Way): void {
    const reply = this.session.hello(transport);
    way.waiting = reply;
    const end = (): void => {
      way.waiting = way.waiting === reply ? null : way.waiting;
    };
    reply.then(() => {
      end();
      this.scheduler.later(() => {
        if (!this.session.known) {
          this.soon(); // it was heard, but the state is lost
        }
      }, AGAIN_MS);
    }, end);
  }
}
