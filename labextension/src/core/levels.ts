/**
 * How severe a line says it is, where the kernel has not told: unfinished lines, those of more kinds than
 * it remembers, and those of a template that has not come. The commonest of the rules of the kernel's
 * `logmesh_ipy/levels.py`, which also looks at the first 256 bytes of UTF-8.
 */
import type { Level } from './api';

const LOOK_BYTES = 256;

const WORDS: Readonly<Record<string, Level>> = {
  TRACE: 10,
  DEBUG: 10,
  INFO: 20,
  NOTICE: 20,
  WARN: 30,
  WARNING: 30,
  ERR: 40,
  ERROR: 40,
  EXCEPTION: 40,
  CRIT: 50,
  CRITICAL: 50,
  FATAL: 50,
  PANIC: 50
};
const GLOG_LETTERS: Readonly<Record<string, Level>> = { I: 20, W: 30, E: 40, F: 50 };
const TOOL_LEVELS: Readonly<Record<string, Level>> = {
  'fatal error': 50,
  'fatal python error': 50,
  fatal: 50,
  error: 40,
  warning: 30
};

// JavaScript's \s knows Unicode's spaces; the kernel's does not.
const S = '[ \\t-\\r]';
const LONGEST_FIRST = Object.keys(WORDS).sort().reverse().join('|');
const WORD = `(${LONGEST_FIRST})`;

 
const SGR = /\x1b\[[0-9;:]{0,64}m/g;
const RANK_PREFIX = new RegExp(`^${S}*(?:\\[(?:rank)?\\d{1,7}\\]:?${S}{0,8})?`);
const GLOG =
  /^(?:\[?([IWEF])\d{4} \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: ([IWEF]) )/;
const FIELD = new RegExp(
  `\\b(?:level|lvl|levelname|severity)"?[=:]${S}?"?(${Object.keys(WORDS).join('|')})\\b`,
  'i'
);
const MARKED = new RegExp(
  `^${WORD}(?=[ \\t-\\r:\\]|>-]|$)` +
    `|[[(<|]${S}{0,4}${WORD}${S}{0,8}[\\])>|:]` +
    `|${S}${WORD}${S}{0,8}(?::|${S}[-|]${S})` +
    `|(?:[\\dZ\\])|]|NCCL|${S}-)[ \\t-\\r,]{1,4}${WORD}(?=${S}|$)`
);
const TIMESTAMP = /^\W{0,2}\d{2,4}[-/:.]\d\d/;
const BARE = new RegExp(`${S}${WORD}${S}`);
const PYTHON_WARNING = /(?:^|: )(?:\w+\.){0,8}[A-Z]\w{0,64}Warning: /;
const EXCEPTION = new RegExp(
  `^(?:(?:[A-Za-z_]\\w{0,64}\\.){0,8}[A-Z]\\w{0,64}(?:Error|Exception)(?:: |${S}*$)` +
    `|(?:KeyboardInterrupt|SystemExit)(?:: |${S}*$))`
);
const TRACEBACK = /^Traceback \(most recent call last\):/;
const TOOL =
  /(?:^|: )(fatal error|fatal python error|fatal|error|warning)(?:\[\w{1,16}\])?: /i;

/** What no line with a level is without; an escape may split any of these words. */
const CANDIDATE =
  /\x1b|trace|debug|info|notice|warn|err|except|crit|fatal|panic|KeyboardInterrupt|SystemExit|[IWEF]\d{4} \d\d:|: [IWEF] /gi;
const NOT_ASCII = /[^\x00-\x7f]/;
 

const encoder = new TextEncoder();

/** The text's first bytes, each as one character, as the kernel's patterns see them. */
function headOf(text: string): string {
  const head = text.length > LOOK_BYTES ? text.slice(0, LOOK_BYTES) : text;
  if (!NOT_ASCII.test(head)) {
    return head;
  }
  return String.fromCharCode(...encoder.encode(head).subarray(0, LOOK_BYTES));
}

/** The level that a line states in one of the usual ways; 0: none. */
export function levelOf(line: string): Level {
  CANDIDATE.lastIndex = 0;
  return CANDIDATE.test(line) ? statedLevel(line) : 0;
}

function statedLevel(line: string): Level {
  let head = headOf(line);
  if (head.includes('\x1b')) {
    head = head.replace(SGR, '');
  }
  head = head.slice(RANK_PREFIX.exec(head)?.[0].length ?? 0);
  if (TRACEBACK.test(head) || EXCEPTION.test(head)) {
    return 40;
  }
  const glog = GLOG.exec(head);
  if (glog !== null) {
    return GLOG_LETTERS[glog[1] ?? glog[2] ?? ''] ?? 0;
  }
  // Where several are stated, the one that stands first counts.
  let found: Level = 0;
  let foundAt = Infinity;
  const offer = (at: number, level: Level): void => {
    if (at < foundAt || (at === foundAt && level < found)) {
      foundAt = at;
      found = level;
    }
  };
  const field = FIELD.exec(head);
  if (field !== null) {
    offer(field.index, WORDS[field[1]?.toUpperCase() ?? ''] ?? 0);
  }
  const word = MARKED.exec(head) ?? (TIMESTAMP.test(head) ? BARE.exec(head) : null);
  if (word !== null) {
    offer(word.index, WORDS[word[1] ?? word[2] ?? word[3] ?? word[4] ?? ''] ?? 0);
  }
  if (PYTHON_WARNING.test(head)) {
    offer(head.length, 30);
  }
  const tool = TOOL.exec(head);
  if (tool !== null) {
    offer(head.length + 1, TOOL_LEVELS[tool[1]?.toLowerCase() ?? ''] ?? 0);
  }
  return found;
}

/** Writes the level of each of `count` lines of `text` to `levels`, from `from` on. Line `i` begins at
 * `offsets[i]` and is closed by a newline. Lines that cannot have one cost nothing of their own. */
export function levelsOf(
  text: string,
  offsets: Uint32Array,
  from: number,
  count: number,
  levels: Uint8Array
): void {
  let line = from;
  CANDIDATE.lastIndex = offsets[from] ?? 0;
  for (;;) {
    const match = CANDIDATE.exec(text);
    if (match === null) {
      return;
    }
    while (line < count && (offsets[line + 1] as number) <= match.index) {
      line += 1;
    }
    if (line >= count) {
      return;
    }
    const start = offsets[line] as number;
    const end = offsets[line + 1] as number;
    levels[line] = match.index - start < 2 * LOOK_BYTES ? statedLevel(text.slice(start, end - 1)) : 0;
    CANDIDATE.lastIndex = end;
    line += 1;
  }
}

/** Where a level counts in {@link LevelCounts}: 0 for none, then DEBUG to CRITICAL. */
export function levelSlot(level: Level): number {
  return level <= 0 ? 0 : Math.max(1, Math.min(5, Math.floor(level / 10)));
}

/** The slots of the levels that a byte holds. */
export const SLOTS = Uint8Array.from({ length: 256 }, (_, level) => levelSlot(level));
