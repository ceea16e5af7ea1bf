// @vitest-environment jsdom
import { describe, expect, it, vi } from 'vitest';
import { appendText, runs, searchExpression, type TextOptions } from '../../src/view/ansi';
import { toText } from '../../src/view/sanitize';

const plain: TextOptions = { marked: null, openFile: null };

function shown(text: string, options: Partial<TextOptions> = {}): HTMLElement {
  const parent = document.createElement('div');
  appendText(parent, text, { ...plain, ...options });
  return parent;
}

describe('SGR sequences become styles', () => {
  it.each([
    ['1', 'font-weight:bold'],
    ['2', 'opacity:0.75'],
    ['3', 'font-style:italic'],
    ['4', 'text-decoration:underline'],
    ['4:3', 'text-decoration:underline'],
    ['21', 'text-decoration:underline'],
    ['31', 'color:var(--lm-red)'],
    ['91', 'color:var(--lm-bright-red)'],
    ['44', 'background-color:var(--lm-blue);color:var(--lm-ink)'],
    ['31;44;7', 'color:var(--lm-blue);background-color:var(--lm-red)'],
    ['7', 'color:var(--lm-paper);background-color:var(--lm-ink)'],
    ['38;5;1', 'color:var(--lm-red)'],
    ['38;5;16', 'color:rgb(0,0,0)'],
    ['38;5;208', 'color:rgb(255,135,0)'],
    ['38;5;255', 'color:rgb(238,238,238)'],
    ['38;2;1;20;255', 'color:rgb(1,20,255)'],
    ['38:2:1:20:255', 'color:rgb(1,20,255)'],
    ['38:2::1:20:255', 'color:rgb(1,20,255)'],
    ['38:5:208', 'color:rgb(255,135,0)'],
    ['38;5;208;1', 'color:rgb(255,135,0);font-weight:bold'],
    ['38;2;1;2;3;4', 'color:rgb(1,2,3);text-decoration:underline'],
    ['31;0', ''],
    ['4;4:0', ''],
    ['38;5;300', ''],
    ['38;2;1;2;999', ''],
    ['38', ''],
    ['48;2', ''],
    [';;', ''],
    ['8', ''],
    ['5', ''],
    ['9999999999', '']
  ])('%s', (codes, css) => {
    expect(runs(`\x1b[${codes}mx`)).toEqual([{ text: 'x', css }]);
  });

  it('no longer count behind a reset', () => {
    expect(runs('\x1b[1;31ma\x1b[0mb')).toEqual([
      { text: 'a', css: 'color:var(--lm-red);font-weight:bold' },
      { text: 'b', css: '' }
    ]);
  });

  it('beyond a thousand keep the last look, and the text stays whole', () => {
    const text = '\x1b[31ma\x1b[32mb'.repeat(3000);
    const found = runs(text);
    expect(found.length).toBeLessThan(1100);
    expect(found.map(run => run.text).join('')).toBe(toText(text));
  });
});

describe('hostile text', () => {
  it.each([
    '<script>alert(1)</script>',
    '<img src=x onerror=alert(1)>',
    '<button data-commandlinker-command="notebook:run-all">',
    'javascript:alert(1) https://example.com',
    '\x1b]8;;javascript:alert(1)\x07click\x1b]8;;\x07',
    '\x1b[31m<b>\x1b[0m"><style>*{}</style>'
  ])('adds no element of its own: %j', text => {
    const node = shown(text);
    expect(node.textContent).toBe(toText(text));
    expect([...node.querySelectorAll('*')].filter(inner => inner.tagName !== 'SPAN')).toEqual([]);
  });

  it('cannot put anything but numbers and names of the palette into a style', () => {
    const node = shown('\x1b[38;2;1;2;3murl(x)\x1b[31;48;5;20my');
    for (const span of node.querySelectorAll('span')) {
      expect(span.getAttribute('style')).toMatch(/^[a-z0-9:;,.() -]+$/);
    }
  });
});

describe('matches and files', () => {
  it('marks what a search means, across colours', () => {
    const node = shown('lo\x1b[31mss=0.1\x1b[0m loss', { marked: searchExpression('loss', false, false) });
    expect([...node.querySelectorAll('mark')].map(mark => mark.textContent)).toEqual(['lo', 'ss', 'loss']);
    expect(node.textContent).toBe('loss=0.1 loss');
  });

  it('takes text as text and expressions as such', () => {
    expect(searchExpression('a.b', false, true)?.test('axb')).toBe(false);
    expect(searchExpression('a.b', true, true)?.test('axb')).toBe(true);
    expect(searchExpression('A', false, false)?.test('a')).toBe(true);
    expect(searchExpression('(', true, false)).toBeNull();
    expect(searchExpression('', true, false)).toBeNull();
  });

  it('does not hang on an expression that matches nothing everywhere', () => {
    expect(shown('abc', { marked: searchExpression('x*', true, false) }).querySelector('mark')).toBeNull();
  });

  it('opens a file of a traceback, and only where that is possible', () => {
    const openFile = vi.fn();
    const node = shown('  File "/a/b c.py", line 12, in main; model/x.py:88: warning', { openFile });
    const buttons = node.querySelectorAll('button');
    expect([...buttons].map(button => button.textContent)).toEqual(['File "/a/b c.py", line 12', 'model/x.py:88']);
    buttons[0]?.click();
    buttons[1]?.click();
    expect(openFile.mock.calls).toEqual([['/a/b c.py', 12], ['model/x.py', 88]]);
    expect(shown('File "x.py", line 1').querySelector('button')).toBeNull();
  });
});
