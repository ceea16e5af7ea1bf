/** Tells people who listen instead of look what has come, in few words and seldom. */
import { count, lines } from './format';

const PAUSE_MS = 5000;

export class Announcer {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private told = { lines: 0, errors: 0 };
  private now = { lines: 0, errors: 0 };
  private last = -Infinity;

  /** `say` puts a text into the live region. */
  constructor(private readonly say: (text: string) => void) {}

  /** How many lines and errors there are now. */
  update(total: number, errors: number): void {
    this.now = { lines: total, errors };
    if (this.timer === undefined && total > this.told.lines) {
      const wait = Math.max(500, this.last + PAUSE_MS - performance.now());
      this.timer = setTimeout(() => this.tell(), wait);
    }
  }

  dispose(): void {
    clearTimeout(this.timer);
  }

  private tell(): void {
    this.timer = undefined;
    this.last = performance.now();
    const fresh = this.now.lines - this.told.lines;
    const errors = this.now.errors - this.told.errors;
    this.told = this.now;
    if (fresh > 0) {
      const kinds = errors > 0 ? `, ${errors === 1 ? '1 error' : `${count(errors)} errors`}` : '';
      this.say(`${lines(fresh).replace(' ', ' new ')}${kinds}`);
    }
  }
}
