/**
 * Where the rows of a long list are, when most have the same height: an estimate for all, and for those
 * that were measured how much they differ, summed in blocks. A place is found in O(n / 256) additions.
 */

const SHIFT = 8;
const BLOCK = 1 << SHIFT;

export class Heights {
  private length = 0;
  private readonly differing = new Map<number, number>();
  private blocks = new Float64Array(64);
  private sum = 0;

  /** `estimate`: pixels of a row that was not measured. */
  constructor(private estimate: number) {}

  /** Forgets all measures. */
  reset(length: number, estimate = this.estimate): void {
    this.estimate = estimate;
    this.length = length;
    if (this.differing.size) {
      this.differing.clear();
      this.blocks.fill(0);
      this.sum = 0;
    }
  }

  /** Rows were added at the end. */
  grow(length: number): void {
    this.length = length;
  }

  /** The height of all rows. */
  get total(): number {
    return this.length * this.estimate + this.sum;
  }

  get(index: number): number {
    return this.estimate + (this.differing.get(index) ?? 0);
  }

  /** Row `index` is `height` pixels high. */
  set(index: number, height: number): void {
    const before = this.differing.get(index) ?? 0;
    const now = height - this.estimate;
    if (Math.abs(now - before) < 0.01) {
      return;
    }
    const block = index >> SHIFT;
    if (block >= this.blocks.length) {
      const larger = new Float64Array(2 * block);
      larger.set(this.blocks);
      this.blocks = larger;
    }
    if (now === 0) {
      this.differing.delete(index);
    } else {
      this.differing.set(index, now);
    }
    this.blocks[block] = (this.blocks[block] ?? 0) + now - before;
    this.sum += now - before;
  }

  /** Pixels above row `index`. */
  before(index: number): number {
    let pixels = index * this.estimate;
    if (this.differing.size) {
      const block = index >> SHIFT;
      for (let at = 0; at < block && at < this.blocks.length; at += 1) {
        pixels += this.blocks[at] ?? 0;
      }
      for (let at = block << SHIFT; at < index; at += 1) {
        pixels += this.differing.get(at) ?? 0;
      }
    }
    return pixels;
  }

  /** The row at `pixels` from the top; the first or last one where there is none. 0 for no rows. */
  find(pixels: number): number {
    const last = Math.max(0, this.length - 1);
    if (!this.differing.size) {
      return Math.min(last, Math.max(0, Math.floor(pixels / this.estimate)));
    }
    let index = 0;
    let top = 0;
    for (let block = 0; index + BLOCK <= last; block += 1) {
      const height = BLOCK * this.estimate + (this.blocks[block] ?? 0);
      if (top + height > pixels) {
        break;
      }
      top += height;
      index += BLOCK;
    }
    while (index < last) {
      top += this.get(index);
      if (top > pixels) {
        break;
      }
      index += 1;
    }
    return index;
  }
}
