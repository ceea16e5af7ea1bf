/**
 * Python tracebacks as blocks: which lines of a stream belong together. A {@link BlockReader} reads
 * the lines of one stream from a traceback's first on; streams interleave, so each has its own.
 *
 * It knows chained tracebacks, exception groups (roughly) and the prefixes that launchers write before
 * each line ("[rank0]: ").
 */
import { withoutSgr } from './carriage';

/** What no line that begins a block is without. */
export const BLOCK_SIGN = 'Traceback (most recent call last):';

const MOST_LINES = 2000;
const MOST_PREFIX = 64;

const HEAD = /^(.*?)(\+ Exception Group )?Traceback \(most recent call last\):\s*$/;
const GROUP_LINE = /^\s*(?:\||\+-)/;
const GROUP_TITLE = /^\s*\|\s?([A-Za-z_][\w.]*(?:: .*)?)$/;
const TITLE = /^(?:[A-Za-z_][\w.]*: |[A-Za-z_][\w.]*:?$)/;
const CHAIN =
  /^(?:During handling of the above exception, another exception occurred:|The above exception was the direct cause of the following exception:)\s*$/;
const RANK_PREFIX = /^\s*\[[a-z]*\d{1,7}\]:\s?$/i;
const ADDRESS = /0x[0-9a-f]{4,16}/gi;

/** Lines that belong together. Rows are those of the log. */
export interface Block {
  readonly head: number;
  /** Dense index of the source. */
  readonly source: number;
  readonly target: number;
  readonly cell: number;
  readonly wall: number;
  /** All of its rows, its head first. */
  readonly rows: number[];
  title: string;
  open: boolean;
  /** Equal for blocks that say the same but for addresses and prefixes; "" while it is open. */
  key: string;
}

type Stage = 'frames' | 'group' | 'title' | 'blank' | 'chain';

/** Whether a line may begin a block. */
export function beginsBlock(text: string): boolean {
  const match = HEAD.exec(withoutSgr(text));
  return match !== null && (match[1] ?? '').length <= MOST_PREFIX && !/["']/.test(match[1] ?? '');
}

export class BlockReader {
  private stage: Stage = 'frames';
  private prefix: string;
  private settledPrefix = false;
  private frames = 0;
  private waiting: number[] = [];
  private hash = new TextHash();
  private waitingText: string[] = [];

  constructor(readonly block: Block, head: string) {
    const match = HEAD.exec(withoutSgr(head));
    this.prefix = match?.[1] ?? '';
    if (match?.[2] !== undefined) {
      this.stage = 'group';
    }
    this.hash.add(head.slice(this.prefix.length));
  }

  /** Take the stream's next line. False: it does not belong to the block, which is over. */
  feed(row: number, line: string): boolean {
    const text = this.bare(withoutSgr(line).trimEnd());
    if (text === null || this.block.rows.length >= MOST_LINES) {
      return this.end();
    }
    switch (this.stage) {
      case 'group':
        return this.feedGroup(row, text);
      case 'frames':
        return this.feedFrame(row, text);
      case 'title':
        if (/^\s+\S/.test(text) || (text !== '' && this.prefixed && !HEAD.test(text))) {
          return this.take(row, text); // the message goes on
        }
        if (text === '') {
          this.stage = 'blank';
          return this.hold(row, text);
        }
        return this.end();
      case 'blank':
        if (CHAIN.test(text)) {
          this.stage = 'chain';
          return this.hold(row, text);
        }
        return this.end();
      case 'chain':
        if (text === '') {
          return this.hold(row, text);
        }
        if (HEAD.test(text)) {
          this.stage = HEAD.exec(text)?.[2] === undefined ? 'frames' : 'group';
          this.frames = 0;
          this.block.open = true;
          this.block.key = '';
          return this.take(row, text);
        }
        return this.end();
    }
  }

  /** Nothing more comes. Lines that were held for a chain that did not come are not the block's. */
  end(): false {
    if (this.block.open) {
      this.finish(this.block.title);
    }
    this.waiting = [];
    return false;
  }

  /** The rows that wait for what the next line tells: the block's only if it goes on. */
  get held(): readonly number[] {
    return this.waiting;
  }

  private get prefixed(): boolean {
    return RANK_PREFIX.test(this.prefix);
  }

  private feedGroup(row: number, text: string): boolean {
    if (GROUP_LINE.test(text)) {
      this.block.title ||= GROUP_TITLE.exec(text)?.[1] ?? '';
      return this.take(row, text);
    }
    return this.end();
  }

  private feedFrame(row: number, text: string): boolean {
    if (/^\s+\S/.test(text)) {
      this.frames += 1;
      return this.take(row, text);
    }
    if (TITLE.test(text) && this.frames > 0) {
      this.take(row, text);
      this.stage = 'title';
      this.finish(text);
      return true;
    }
    return this.end();
  }

  private finish(title: string): void {
    this.block.title = title;
    this.block.open = false;
    this.block.key = `${this.block.cell} ${this.block.target} ${this.hash.value}`;
  }

  private take(row: number, text: string): true {
    this.block.rows.push(...this.waiting, row);
    for (const waited of this.waitingText) {
      this.hash.add(waited);
    }
    this.hash.add(text);
    this.waiting = [];
    this.waitingText = [];
    if (!this.block.open) {
      this.finish(this.block.title);
    }
    return true;
  }

  private hold(row: number, text: string): true {
    this.waiting.push(row);
    this.waitingText.push(text);
    return true;
  }

  /** The line without the prefix that the head has; null where it is another's. */
  private bare(text: string): string | null {
    if (this.prefix === '') {
      return text;
    }
    if (!this.settledPrefix) {
      this.settledPrefix = true;
      if (!text.startsWith(this.prefix) && /^ {2}File "/.test(text)) {
        this.prefix = ''; // only the head had it: a logger's
      }
    }
    if (text.startsWith(this.prefix)) {
      return text.slice(this.prefix.length);
    }
    return text === this.prefix.trimEnd() ? '' : null;
  }
}

/** A 53-bit hash of lines (cyrb53), blind to addresses. Tells texts apart; not for secrets. */
class TextHash {
  private one = 0xdeadbeef;
  private other = 0x41c6ce57;

  add(line: string): void {
    const text = line.replace(ADDRESS, '0x') + '\n';
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      this.one = Math.imul(this.one ^ code, 2654435761);
      this.other = Math.imul(this.other ^ code, 1597334677);
    }
  }

  get value(): string {
    let one = Math.imul(this.one ^ (this.one >>> 16), 2246822507);
    one ^= Math.imul(this.other ^ (this.other >>> 13), 3266489909);
    let other = Math.imul(this.other ^ (this.other >>> 16), 2246822507);
    other ^= Math.imul(this.one ^ (this.one >>> 13), 3266489909);
    return (4294967296 * (2097151 & other) + (one >>> 0)).toString(36);
  }
}
