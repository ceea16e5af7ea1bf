import { describe, expect, it } from 'vitest';
import { inert, toText } from '../../src/view/sanitize';

describe('a line comes out as inert text', () => {
  it.each([
    ['', ''],
    ['plain text, 100%', 'plain text, 100%'],
    ['a\tb', 'a\tb'],
    ['Überprüfung 数据 ✓', 'Überprüfung 数据 ✓'],
    ['\x00\x01\x1f\x7f', '␀␁␟␡'],
    ['a\nb\x0b\x0c', 'a␊b␋␌'],
    ['10%\r20%', '10%␍20%'],
    ['\x1b[31mred\x1b[0m', 'red'],
    ['\x1b[38:2::1:2:3mx\x1b[m', 'x'],
    ['\x1b]0;owned\x07', '␛]0;owned␇'],
    ['\x1b]8;;http://evil/\x1b\\here', '␛]8;;http://evil/␛\\here'],
    ['\x1b]52;c;aGk=\x07', '␛]52;c;aGk=␇'],
    ['\x1b[2J\x1b[H', '␛[2J␛[H'],
    ['\x1b[?25l', '␛[?25l'],
    ['\x1b[31', '␛[31'],
    [`\x1b[${'1;'.repeat(100)}m`, `␛[${'1;'.repeat(100)}m`],
    ['\x9b31m', '\\x9b31m'],
    ['a\u202eb\u2066c\u2069\u200f', 'a\\u202eb\\u2066c\\u2069\\u200f'],
    ['a\u2028b\u2029', 'a\\u2028b\\u2029'],
    ['\ufeffa\u200bb\u2060', '\\ufeffa\\u200bb\\u2060'],
    ['x\u{e0041}y\u00ad', 'x\\U000e0041y\\u00ad'],
    ['a\u200db', 'a\\u200db'],
    ['\u200d\u200dé', '\\u200d\\u200dé'],
    ['می\u200cخواهم', 'می\u200cخواهم'],
    ['👩\u200d🚀 ❤\ufe0f\u200d🔥', '👩\u200d🚀 ❤\ufe0f\u200d🔥'],
    ['a\u3164b\u034fc\u115f', 'a\\u3164b\\u034fc\\u115f'],
    ['a\ufe0f 1\ufe0f\u20e3 ❤\ufe0f\ufe0f', 'a\\ufe0f 1\ufe0f\u20e3 ❤\ufe0f\\ufe0f'],
    ['x\u{e0100} 漢\u{e0100}\u{e0101}', 'x\\U000e0100 漢\u{e0100}\\U000e0101'],
    ['lone \ud800 surrogate', 'lone \\ud800 surrogate']
  ])('%j', (line, text) => {
    expect(toText(line)).toBe(text);
  });
});

it('leaves nothing that hides, reorders or commands, whatever the order of the pieces', () => {
  const parts = ['\x1b', '[', '31m', '\x1b[K', '\x1b[0m', '\u202e', '\u200d', 'é', 'x', '\x9b', '\r', '\x07', '\u{e0020}'];
  const forbidden = /[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]|[\u{e0000}-\u{e007f}]/u;
  let seed = 20;
  for (let round = 0; round < 3000; round += 1) {
    let line = '';
    for (let piece = 0; piece < 8; piece += 1) {
      seed = (seed * 1103515245 + 12345) % 2 ** 31;
      line += parts[seed % parts.length] ?? '';
    }
    expect(toText(line), JSON.stringify(line)).not.toMatch(forbidden);
  }
});

it('is linear: half a megabyte of joiners takes no noticeable time', () => {
  const before = performance.now();
  inert('\u200d'.repeat(500_000));
  toText('\x1b['.repeat(250_000));
  expect(performance.now() - before).toBeLessThan(3000);
});
