/** Who prints: sources by their id and, for columns, by a small dense number. */
import type { Source } from './api';
import type { SourceTuple } from './protocol';

export class Sources {
  readonly byId = new Map<number, Source>();
  private readonly dense = new Map<number, number>();
  private readonly ids: number[] = [];

  /** Counts changes to answers of `at`. */
  version = 0;

  /** Take what a message tells of a source. */
  learn([id, rank, job, host, pid]: SourceTuple): void {
    const known = this.byId.get(id);
    if (
      known !== undefined &&
      known.rank === rank &&
      known.job === job &&
      known.host === host &&
      known.pid === pid
    ) {
      return;
    }
    this.version += this.dense.has(id) ? 1 : 0;
    this.byId.set(id, { id, rank, job, host, pid });
  }

  knows(id: number): boolean {
    return this.byId.has(id);
  }

  /** The dense number of an id; a new one where there is none. */
  indexOf(id: number): number {
    let index = this.dense.get(id);
    if (index === undefined) {
      index = this.ids.length;
      this.dense.set(id, index);
      this.ids.push(id);
    }
    return index;
  }

  /** The source with a dense number; a nameless one while nothing has been told of it. */
  at(index: number): Source {
    const id = this.ids[index] ?? -1;
    return this.byId.get(id) ?? { id, rank: -1, job: '', host: '', pid: 0 };
  }

  /** How many dense numbers there are. */
  get size(): number {
    return this.ids.length;
  }
}
