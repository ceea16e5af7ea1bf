import { describe, expect, it } from 'vitest';
import { slotNames, slotsOf } from '../../src/core/slots';
import { randomFrom } from './kernel';

describe('slots of a line', () => {
  it.each([
    ['step 12 loss 0.5', ['step ', ' loss ', ''], ['12', '0.5']],
    ['12 steps', ['', ' steps'], ['12']],
    ['12', ['', ''], ['12']],
    ['', ['', ''], ['']],
    ['[a] [b]', ['[', '] [', ']'], ['a', 'b']],
    // The last piece stands at the end, wherever else it stands too.
    ['took 5 ms of 9 ms', ['took ', ' ms'], ['5 ms of 9']],
    ['a, b, c', ['', ', ', ''], ['a', 'b, c']],
    ['no slot', ['no slot'], []],
    ['x=1=2=', ['x=', '=', '='], ['1', '2']]
  ])('%j of %j are %j', (line, pieces, slots) => {
    expect(slotsOf(line, { pieces, kinds: '*'.repeat(pieces.length - 1) })).toEqual(slots);
  });

  it.each([
    ['step 12', ['lap ', '']],
    ['step 12', ['step ', ' of ', '']],
    ['step 12', ['step ', ' s']],
    ['no slots', ['no slot']],
    // Pieces may not overlap.
    ['abab', ['aba', 'bab']],
    ['a--b', ['a-', '--', '-b']],
    ['', ['a', '']]
  ])('%j does not fit %j', (line, pieces) => {
    expect(slotsOf(line, { pieces, kinds: '*'.repeat(pieces.length - 1) })).toBeNull();
  });

  it('are found exactly where the line can be taken apart at all', () => {
    const seed = 20261122;
    const random = randomFrom(seed);
    const word = (most: number): string =>
      Array.from({ length: Math.floor(random() * most) }, () => 'ab '[Math.floor(random() * 3)]).join('');
    let fits = 0;
    for (let round = 0; round < 20_000; round += 1) {
      const pieces = Array.from({ length: 1 + Math.floor(random() * 4) }, () => word(3));
      const line = word(9);
      const found = slotsOf(line, { pieces, kinds: '*'.repeat(pieces.length - 1) });
      const about = `seed ${seed}: ${JSON.stringify([line, pieces])}`;
      expect(found !== null, about).toBe(new RegExp(`^${pieces.join('.*')}$`).test(line));
      if (found !== null) {
        fits += 1;
        expect(pieces.map((piece, at) => piece + (found[at] ?? '')).join(''), about).toBe(line);
      }
    }
    expect(fits).toBeGreaterThan(1000);
  });

  it.each([
    ['delta -3-4 end', ['delta ', '-', ' end'], '##', ['-3', '4']],
    ['delta -3--4 end', ['delta ', '-', ' end'], '##', ['-3', '-4']],
    ['10-20', ['', '-', ''], '##', ['10', '20']],
    ['+3+-4', ['', '+', ''], '##', ['+3', '-4']],
    ['lr 1e-9', ['lr ', ''], '#', ['1e-9']],
    ['lr 2.5E+3.', ['lr ', '.'], '#', ['2.5E+3']],
    ['2e5 3e', ['', ' ', 'e'], '##', ['2e5', '3']],
    ['1e-x', ['', 'e-x'], '#', ['1']],
    ['at .5 of 007.', ['at ', ' of ', '.'], '##', ['.5', '007']],
    ['v1.2.3', ['v', '.', ''], '##', ['1.2', '3']],
    ['1.e5', ['', '.e5'], '#', ['1']],
    // A text goes on until a number follows, and all the numbers up to the next text.
    ['worker a b 12 up', ['worker ', ' ', ' up'], '*#', ['a b', '12']],
    ['a-b--3', ['a', '-', ''], '*#', ['-b', '-3']],
    ['x- -y-5', ['x', '-', ''], '*#', ['- -y', '5']],
    ['on h1 2', ['on ', ' ', ''], '*#', ['h1', '2']],
    ['k  7', ['k', ' ', ''], '*#', [' ', '7']],
    ['host  up 5 s', ['host ', ' up ', ' s'], '*#', ['', '5']],
    ['softheader=00000063 800b0003 00000000 12 7', ['softheader=', ' ', ' ', ''], '*##', ['00000063 800b0003 00000000', '12', '7']],
    ['softheader=1 2 3 4', ['softheader=', ' ', ' ', ''], '*##', ['1 2', '3', '4']],
    ['ear 0x1f 2a 5 6 7', ['ear ', ' ', ''], '*#', ['0x1f 2a 5 6', '7']],
    ['k 1 x 2, 3 y 4 5', ['k ', ' ', ', ', ' y ', ''], '*##*', ['1 x', '2', '3', '4 5']],
    ['k a 1 b 2 3 4', ['k ', ' ', ' b ', ' ', ''], '*#*#', ['a', '1', '2 3', '4']],
    ['1 1.2 3', ['', '1', ' ', ''], '*##', ['1 ', '.2', '3']],
    // The first place counts; the last piece stands at the end.
    ['a, b, c, d', ['', ', ', ', ', ''], '***', ['a', 'b', 'c, d']],
    ['5 ms of 9 ms', ['', ' ', ' ms'], '#*', ['5', 'ms of 9']],
    ['n 4 of 4', ['n ', ' of ', '4'], '#*', ['4', '']],
    // A long piece that overlaps itself.
    [`<${'ab'.repeat(20)}x${'ab'.repeat(21)}7>`, ['<', 'ab'.repeat(20), '>'], '*#', [`${'ab'.repeat(20)}xab`, '7']],
    [`k${' 1'.repeat(40)}`, ['k', ' 1'.repeat(9) + ' ', ' 1'.repeat(9) + ' ', ''], '*##', [' 1'.repeat(20), '1', '1']]
  ])('%j of %j, %s, are %j', (line, pieces, kinds, slots) => {
    expect(slotsOf(line, { pieces, kinds })).toEqual(slots);
  });

  it.each([
    ['loss nan', ['loss ', ''], '#'],
    ['loss ', ['loss ', ''], '#'],
    ['loss -', ['loss ', ''], '#'],
    ['loss .', ['loss ', ''], '#'],
    ['loss 5.', ['loss ', ''], '#'],
    ['loss 1,5', ['loss ', ''], '#'],
    ['loss --1', ['loss ', ''], '#'],
    ['loss \u0663', ['loss ', ''], '#'],
    ['0x1f', ['', ''], '#'],
    // A number does not give back what it has taken.
    ['12', ['', '2'], '#'],
    ['1e5', ['', 'e5'], '#'],
    ['1.5', ['', '.5'], '#'],
    ['worker a b', ['worker ', ' ', ''], '*#'],
    ['worker a 5 x', ['worker ', ' ', ''], '*#'],
    ['5 ms', ['', ' ms', ''], '*#'],
    ['softheader=0 63 800b0003', ['softheader=', ' ', ' ', ''], '*##'],
    ['softheader=a 63 8 x', ['softheader=', ' ', ' ', ''], '*##'],
    // There is no way back to a text that has been cut.
    ['k a 1 b 2 a 1 b 3 4', ['k ', ' ', ' b ', ' a', ''], '*#*#'],
    // The beginning of a long piece was told.
    ['x'.repeat(600) + '5', ['x'.repeat(500) + '\u2026', ''], '#'],
    [`${'ab'.repeat(40)}x`, ['', 'ab'.repeat(20), ''], '*#']
  ])('%j does not fit %j, %s', (line, pieces, kinds) => {
    expect(slotsOf(line, { pieces, kinds })).toBeNull();
  });

  it('are cut as a plain reading of the rule cuts them', () => {
    const NUMBER = /^[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?/;
    const plain = (line: string, pieces: string[], kinds: string): string[] | null => {
      if (!line.startsWith(pieces[0]!)) {
        return null;
      }
      let rest = line.slice(pieces[0]!.length);
      const slots: string[] = [];
      for (let slot = 0; slot < kinds.length; slot += 1) {
        const piece = pieces[slot + 1]!;
        const last = slot === kinds.length - 1;
        let value: string | undefined;
        if (kinds[slot] === '#') {
          value = NUMBER.exec(rest)?.[0];
        } else {
          const [behind] = /^#*/.exec(kinds.slice(slot + 1))!;
          const numbersFit = (text: string): boolean => {
            let left = text;
            for (let next = slot + 1; next <= slot + behind.length; next += 1) {
              const number = NUMBER.exec(left)?.[0];
              if (number === undefined || !left.startsWith(pieces[next + 1]!, number.length)) {
                return false;
              }
              left = left.slice(number.length + pieces[next + 1]!.length);
            }
            return left === '' || slot + behind.length < kinds.length - 1;
          };
          const ends = Array.from({ length: rest.length + 1 }, (_, end) => end);
          const end = ends.find(at =>
            last ? rest.slice(at) === piece : rest.startsWith(piece, at) && numbersFit(rest.slice(at + piece.length))
          );
          value = end === undefined ? undefined : rest.slice(0, end);
        }
        if (value === undefined || !rest.startsWith(piece, value.length)) {
          return null;
        }
        slots.push(value);
        rest = rest.slice(value.length + piece.length);
      }
      return rest === '' ? slots : null;
    };
    const seed = 20261123;
    const random = randomFrom(seed);
    const word = (least: number, most: number): string =>
      Array.from({ length: least + Math.floor(random() * (most - least)) }, () => '1-.e +5a'[Math.floor(random() * 8)]).join('');
    let fits = 0;
    for (let round = 0; round < 60_000; round += 1) {
      const kinds = Array.from({ length: Math.floor(random() * 5) }, () => '#*'[Math.floor(random() * 2)]).join('');
      const repeat = random() < 0.2 ? 20 : 1;
      const pieces = Array.from(`${kinds} `, (_, at) => word(at > 0 && at < kinds.length ? 1 : 0, 3).repeat(repeat));
      const value = (kind: string): string => (kind === '#' ? `${'-+'[Math.floor(random() * 4)] ?? ''}${Math.floor(random() * 100) / 10}` : word(0, 4).repeat(repeat));
      const line = random() < 0.3 ? word(0, 12) : pieces.map((piece, at) => piece + (at < kinds.length ? value(kinds[at]!) : '')).join('');
      const found = slotsOf(line, { pieces, kinds });
      expect(found, `seed ${seed}: ${JSON.stringify([line, pieces, kinds])}`).toEqual(plain(line, pieces, kinds));
      fits += found === null ? 0 : 1;
    }
    expect(fits).toBeGreaterThan(10_000);
  });

  it.each([
    ['a', 'a'], ['-', '-'], ['1', '1'], ['.', '.'], [' ', ' '], ['1', 'x'], ['-', '-'.repeat(16)], ['a', 'a'.repeat(17)],
    ['1 ', ' '], [' 1', ' 1 '], ['1 ', `${' 1'.repeat(8000)} `], ['1 ', `${' 1'.repeat(9)} `], ['1.', '.'], ['1', '1'.repeat(16)],
    ['a', 'a'.repeat(500)], ['a', 'a'.repeat(16_000)], ['a', `b${'a'.repeat(499)}`], ['a', `${'a'.repeat(499)}b`], ['1', '1'.repeat(500)], ['e', `1${'e'.repeat(30)}`]
  ])('of a line of 64 KB of %j are found soon (case %#)', (letter, piece) => {
    const line = letter.repeat((1 << 16) / letter.length);
    for (const kinds of ['*#', '*##', '*####', '##', '**', '*#*#*#', '#*#']) {
      const pieces = ['', ...Array.from(kinds, () => piece)];
      const times = Array.from({ length: 8 }, () => {
        const start = performance.now();
        slotsOf(line, { pieces, kinds });
        return performance.now() - start;
      });
      expect(Math.min(...times), kinds).toBeLessThan(20);
    }
  });

  it('take time in proportion to the line', () => {
    const shape = { pieces: ['a', ...Array.from({ length: 50 }, () => 'ab'), 'c'], kinds: '*'.repeat(51) };
    const time = (length: number): number => {
      const line = 'a'.repeat(length);
      const times = Array.from({ length: 8 }, () => {
        const start = performance.now();
        for (let round = 0; round < 5; round += 1) {
          expect(slotsOf(line, shape)).toBeNull();
        }
        return performance.now() - start;
      });
      return Math.min(...times);
    };
    // Ten times the time for ten times the length, or a hundred times if it were quadratic.
    expect(time(1_000_000)).toBeLessThan(40 * Math.max(0.1, time(100_000)));
  });

  it('are called after the word in front of them', () => {
    const pieces = ['step ', '/', ': loss=', ' lr = ', ' "host": "', '", took ', ' ', ' \x1b[1mgrad_norm\x1b[0m ', ' half of a wor\u2026', ''];
    expect(slotNames({ pieces, kinds: '#########' })).toEqual([
      'step', '#2', 'loss', 'lr', 'host', 'took', '#7', 'grad_norm', '#9'
    ]);
  });

  it.each([
    ['loss is ', 'loss'], ['took at most ', 'most'], ['The loss of rank: ', 'rank'], ['is in ', 'in'], ['grad norm (L2) = ', 'L2'],
    ['WITH A ', 'A'], ['  -> ', '#1'], [`loss ${'.'.repeat(80)}`, '#1'], ['gr\u00f6\u00dfe: ', 'gr\u00f6\u00dfe'], ['x'.repeat(60), 'x'.repeat(19)]
  ])('%j is named as the kernel names it, %j', (piece, name) => {
    expect(slotNames({ pieces: [piece, ''], kinds: '#' })).toEqual([name]);
  });
});
