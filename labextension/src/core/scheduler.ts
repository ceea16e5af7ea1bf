/** Time, as the core sees it: injected, so that tests run it by hand. */
export interface Scheduler {
  /** Monotonic milliseconds. */
  now(): number;
  /** Once, when the task that runs now is done. */
  soon(work: () => void): void;
  /** Once, after that many milliseconds; gives the undo. */
  later(work: () => void, milliseconds: number): () => void;
}

export const systemScheduler: Scheduler = {
  now: () => performance.now(),
  soon: work => queueMicrotask(work),
  later: (work, milliseconds) => {
    const timer = setTimeout(work, milliseconds);
    return () => clearTimeout(timer);
  }
};
