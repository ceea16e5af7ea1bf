/**
 * The templates of the kernel: which lines are alike, and what they have in common. Templates become
 * part of others as the kernel sees more lines; what is told may come late, again and out of order.
 *
 * Invariants: `find` gives the same answer until `revision` grows, and a template only ever joins
 * another one until `splits` grows; `level` gives the same answer until `relevels` grows, and `shape`
 * until `reshapes` does.
 */
import type { Level } from './api';
import { SlotKind } from './protocol';
import type { TemplateTuple } from './protocol';

/** The template of lines of more kinds than the kernel remembers. */
export const OTHERS = 0;

/** What lines that are alike have in common: `pieces[0] + slot + pieces[1] + ...`. */
export interface Shape {
  /** One more than there are slots. */
  readonly pieces: readonly string[];
  /** A {@link SlotKind} for each slot. */
  readonly kinds: string;
}

interface Told {
  /** The number of the message that told it. */
  readonly n: number;
  readonly into: number;
  /** Null where it is part of another, or what was told of it makes no sense. */
  readonly shape: Shape | null;
  readonly level: Level;
}

export class Templates {
  /** Counts changes to answers of `find`. */
  revision = 0;
  /** Counts those of them after which lines that were alike may be so no more. */
  splits = 0;
  /** Counts changes to answers of `level`. */
  relevels = 0;
  /** Counts changes to answers of `shape`. */
  reshapes = 0;
  private readonly told = new Map<number, Told>();
  /** What each is part of, perhaps over several steps; paths get shorter as they are walked. */
  private readonly parents = new Map<number, number>();
  /** Those that were asked for before anything was told of them. */
  private readonly missed = new Set<number>();

  /** Take what message `n` tells. What a later message has told stays. */
  learn(tuples: readonly TemplateTuple[], n: number): void {
    const fresh = tuples.filter(([id]) => id !== OTHERS && (this.told.get(id)?.n ?? n) <= n);
    const known = fresh.filter(([id]) => this.told.has(id) || this.missed.has(id));
    const before = known.map(([id]) => [this.rootOf(id), this.level(id), this.shape(id)] as const);
    const turned: TemplateTuple[] = [];
    for (const tuple of fresh) {
      const [id, into, pieces, kinds, level] = tuple;
      const old = this.told.get(id);
      const shape = into === id ? shapeOf(pieces, kinds) : null;
      this.told.set(id, { n, into, level, shape: sameShape(old?.shape ?? null, shape) ? (old?.shape ?? null) : shape });
      this.missed.delete(id);
      if (old !== undefined && old.into !== id && old.into !== into) {
        turned.push(tuple);
      } else {
        this.attach(id, into);
      }
    }
    // Where only a shorter path is told, everything stays as it is.
    if (turned.some(([id, into]) => this.rootOf(id) !== (into === id ? id : this.rootOf(into)))) {
      this.parents.clear();
      for (const [id, { into }] of this.told) {
        this.attach(id, into);
      }
      this.splits += 1;
    }
    this.revision += known.some(([id], at) => this.rootOf(id) !== before[at]?.[0]) ? 1 : 0;
    this.relevels += known.some(([id], at) => this.level(id) !== before[at]?.[1]) ? 1 : 0;
    this.reshapes += known.some(([id], at) => this.shape(id) !== before[at]?.[2]) ? 1 : 0;
  }

  /** Whether anything was told of a template. */
  knows(id: number): boolean {
    return id === OTHERS || this.told.has(id);
  }

  /** The template that it is part of now. Equal for lines that are alike. */
  find(id: number): number {
    const root = this.rootOf(id);
    if (!this.knows(root)) {
      this.missed.add(root);
    }
    return root;
  }

  /** What lines of a template have in common; null where that is not known. The same object while it
   * stays the same. */
  shape(id: number): Shape | null {
    return this.told.get(this.find(id))?.shape ?? null;
  }

  /** The level that lines of a template state, 0 for none; null where that is not known. */
  level(id: number): Level | null {
    return this.told.get(this.find(id))?.level ?? null;
  }

  /** A circle, which no kernel means, is left open. */
  private attach(id: number, into: number): void {
    if (into !== id && this.rootOf(into) !== this.rootOf(id)) {
      this.parents.set(id, into);
    }
  }

  private rootOf(id: number): number {
    let root = id;
    for (let next = this.parents.get(root); next !== undefined; next = this.parents.get(root)) {
      root = next;
    }
    for (let at = id; at !== root; ) {
      const next = this.parents.get(at) as number;
      this.parents.set(at, root);
      at = next;
    }
    return root;
  }
}

/** A template as text: `step <#> of <*>`. */
export function templateText({ pieces, kinds }: Shape): string {
  return pieces.map((piece, at) => (at === 0 ? piece : `<${kinds[at - 1] as string}>${piece}`)).join('');
}

/** What is readable of a template's shape; letters of other kernels' kinds are texts. */
function shapeOf(pieces: readonly string[], kinds: string): Shape | null {
  if (pieces.length !== kinds.length + 1) {
    return null;
  }
  return { pieces, kinds: kinds.replace(/[^#]/g, SlotKind.text) };
}

function sameShape(one: Shape | null, other: Shape | null): boolean {
  return (
    one?.kinds === other?.kinds &&
    one?.pieces.length === other?.pieces.length &&
    (one === null || other === null || one.pieces.every((piece, at) => piece === other.pieces[at]))
  );
}
