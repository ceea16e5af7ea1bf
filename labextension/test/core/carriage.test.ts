import { describe, expect, it } from 'vitest';
import { settle } from '../../src/core/carriage';
import { Query } from '../../src/core/query';
import { Session } from '../../src/core/session';
import { FakeKernel, FakeTransport, HandScheduler } from './kernel';

/** What stands in the list in the end when the streams are sent in messages of so many rows; an
 * unfinished last line is its live line. */
function listOf(streams: readonly string[], rowsPerMessage: number): string[] {
  const kernel = new FakeKernel();
  const scheduler = new HandScheduler();
  const session = new Session('s', { scheduler });
  const transport = new FakeTransport();
  session.attach(transport);
  const split = streams.map(stream => stream.split('\n'));
  const live = split.map(lines => lines.pop() ?? '');
  const most = Math.max(...split.map(lines => lines.length));
  for (let at = 0; at < most; at += 1) {
    split.forEach((lines, source) => {
      const text = lines[at];
      if (text !== undefined) {
        kernel.add({ text, source, target: 2 });
      }
    });
  }
  const query = new Query(session);
  for (let first = 0; first < kernel.lines.length; first += rowsPerMessage) {
    const end = Math.min(first + rowsPerMessage, kernel.lines.length);
    const { message, buffer } = kernel.rows(first, end, { live: true });
    transport.receive(message, buffer);
    scheduler.settle();
  }
  transport.receive({
    logmesh: 1, session: 's', n: ++kernel.n, type: 'live', more: 0,
    lines: live.map((text, source) => [source, 2, 1, 0, settle(text)]).filter(line => line[4] !== '')
  });
  scheduler.settle();
  return Array.from({ length: query.length }, (_, index) => {
    const item = query.item(index);
    return 'text' in item ? item.text : item.kind;
  });
}

const TQDM =
  '\ra:   0%|   | 0/4\n\rb:   0%|   | 0/4\x1b[A\ra:  25%|2  | 1/4\n\rb:  25%|2  | 1/4\x1b[A' +
  '\ra:  50%|5  | 2/4\n\rb:  50%|5  | 2/4\x1b[A\ra:  75%|7  | 3/4\n\rb:  75%|7  | 3/4\x1b[A' +
  '\ra: 100%|#  | 4/4\n\rb: 100%|#  | 4/4\x1b[A\rb: 100%|#  | 4/4\n\ra: 100%|#  | 4/4\n';
const NESTED =
  '\repoch:   0%| 0/2\n\rbatch:   0%| 0/3\x1b[A\n\rbatch:  33%| 1/3\x1b[A\n\rbatch: 100%| 3/3\x1b[A' +
  '\n\r                 \x1b[A\repoch:  50%| 1/2\n\rbatch:   0%| 0/3\x1b[A\n\rbatch: 100%| 3/3\x1b[A' +
  '\n\r                 \x1b[A\repoch: 100%| 2/2\repoch: 100%| 2/2\n';
const RICH =
  '\x1b[?25l\r\x1b[2Kx   0%\r\x1b[2Kx   0%\ny   0%\r\x1b[2K\x1b[1A\x1b[2Kx   0%\ny   0%\nz   0%' +
  '\r\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2Kx \u2501  33%\ny \u2501  33%\nz \u2501  33%' +
  '\r\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2Khello\nx \u2501  33%\ny \u2501  33%\nz \u2501  33%' +
  '\r\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2Kx \u2501 100%\ny \u2501 100%\nz \u2501 100%\n\x1b[?25h';

describe('settle', () => {
  it.each([
    ['plain', 'plain'],
    ['10%\r20%', '20%'],
    ['10%\r20%\r', '20%'],
    ['a windows line\r', 'a windows line'],
    ['10%\r20%\r\x1b[K', '20%'],
    ['long text\r\x1b[Kshort', 'short'],
    ['\x1b[31m10%\r20%\x1b[0m\r\x1b[0m', '\x1b[31m20%\x1b[0m'],
    ['', ''],
    ['\r', '']
  ])('of %j is %j', (line, settled) => {
    expect(settle(line)).toBe(settled);
  });
});

describe('lines that rewrite earlier ones', () => {
  for (const rows of [1, 2, 3, 1000]) {
    it(`are one row per bar of tqdm with two positions, ${rows} rows a message`, () => {
      expect(listOf([TQDM], rows)).toEqual(['b: 100%|#  | 4/4', 'a: 100%|#  | 4/4']);
    });
    it(`are one row for nested bars that leave nothing, ${rows} rows a message`, () => {
      expect(listOf([NESTED], rows)).toEqual(['epoch: 100%| 2/2']);
    });
    it(`are one row per task of rich, and what is printed above, ${rows} rows a message`, () => {
      const shown = ['hello', 'x \u2501 100%', 'y \u2501 100%', 'z \u2501 100%'];
      expect(listOf([RICH], rows).slice(0, 4)).toEqual(shown);
    });
    it(`are kept apart by stream, ${rows} rows a message`, () => {
      const shown = listOf([TQDM, TQDM, NESTED], rows);
      expect(shown.filter(text => text.startsWith('a'))).toHaveLength(2);
      expect(shown.filter(text => text.startsWith('b:'))).toHaveLength(2);
      expect(shown).toHaveLength(5);
    });
  }

  it('show what an unfinished line says of a bar in its row', () => {
    const half = TQDM.slice(0, TQDM.indexOf('\n\rb:  50%'));
    expect(listOf([half], 2)).toEqual(['a:  50%|5  | 2/4', 'b:   0%|   | 0/4']);
    expect(listOf([`${half}\n\rc:   0%`], 2)).toContain('c:   0%');
  });

  it('show text that was there before the bars', () => {
    const shown = listOf([`one\ntwo\n${TQDM}three\nfour\n`], 3);
    expect(shown).toEqual(['one', 'two', 'b: 100%|#  | 4/4', 'a: 100%|#  | 4/4', 'three', 'four']);
  });
});
