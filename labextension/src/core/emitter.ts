/** Typed events: who listens to what. Listeners run in the order in which they came. */
import type { IEvents } from './api';

export class Emitter<Events> implements IEvents<Events> {
  private readonly listeners = new Map<keyof Events, Set<(value: never) => void>>();

  on<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void {
    let listeners = this.listeners.get(name);
    if (listeners === undefined) {
      this.listeners.set(name, (listeners = new Set()));
    }
    // A wrapper of its own, so that the same function can listen twice and be undone once.
    const entry = (value: Events[Name]): void => listener(value);
    listeners.add(entry);
    return () => {
      listeners.delete(entry);
    };
  }

  protected emit<Name extends keyof Events>(name: Name, value: Events[Name]): void {
    for (const listener of [...(this.listeners.get(name) ?? [])]) {
      (listener as (value: Events[Name]) => void)(value);
    }
  }

  /** Whether anyone listens to anything. */
  protected get isHeard(): boolean {
    return [...this.listeners.values()].some(listeners => listeners.size > 0);
  }

  /** Forget all listeners. */
  protected clearListeners(): void {
    this.listeners.clear();
  }
}
