// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Announcer } from '../../src/view/announcer';
import { Footer } from '../../src/view/footer';
import { SearchBox } from '../../src/view/searchbox';
import { hideSnapshot } from '../../src/view/snapshot';
import { FakeQuery, FakeSession, line } from './fakes';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

describe('announcements', () => {
  it('come at most every five seconds, with everything since the last', () => {
    const say = vi.fn();
    const announcer = new Announcer(say);
    for (let second = 0; second < 12; second += 1) {
      announcer.update(100 * (second + 1), second);
      vi.advanceTimersByTime(1000);
    }
    expect(say.mock.calls.length).toBeLessThanOrEqual(3);
    expect(say.mock.calls[0]?.[0]).toBe('100 new lines');
    expect(say.mock.calls[1]?.[0]).toMatch(/^\d+ new lines, \d errors$/);
    announcer.dispose();
  });

  it('do not come when nothing does', () => {
    const say = vi.fn();
    const announcer = new Announcer(say);
    announcer.update(0, 0);
    vi.advanceTimersByTime(60_000);
    expect(say).not.toHaveBeenCalled();
  });
});

describe('the snapshot', () => {
  const rules = (): string => [...document.head.querySelectorAll('style')].map(style => style.textContent).join('');

  it('is hidden until the last view of its cell is gone', () => {
    const first = hideSnapshot('s1', 3);
    const second = hideSnapshot('s1', 3);
    expect(rules()).toContain('.jp-OutputArea-child:has(.logmesh-of-s1-3){display:none}');
    first();
    first();
    expect(rules()).toContain('logmesh-of-s1-3');
    second();
    expect(rules()).not.toContain('logmesh-of-s1-3');
  });

  it('of a hostile name puts nothing into the page', () => {
    hideSnapshot('x{}</style><b>', 1)();
    hideSnapshot('x{}*', 1);
    expect(rules()).not.toContain('x{}');
  });
});

describe('search', () => {
  function made(): { box: SearchBox; query: FakeQuery; goTo: ReturnType<typeof vi.fn>; input: HTMLInputElement; text: () => string } {
    const query = new FakeQuery(new FakeSession(), [0, 1, 2, 3].map(row => line(row, row % 2 ? 'odd' : 'even')));
    const goTo = vi.fn();
    const box = new SearchBox(query, { mark: vi.fn(), goTo, current: () => 4, leave: vi.fn() });
    const input = box.node.querySelector('input') as HTMLInputElement;
    document.body.replaceChildren(box.node);
    return { box, query, goTo, input, text: () => box.node.querySelector('.lm-count')?.textContent ?? '' };
  }

  function type(input: HTMLInputElement, text: string): void {
    input.value = text;
    input.dispatchEvent(new Event('input'));
    vi.advanceTimersByTime(200);
  }

  it('finds: a count, and next and previous around', () => {
    const { box, goTo, input, text } = made();
    type(input, 'odd');
    expect(text()).toBe('2');
    box.step(-1);
    expect([text(), goTo.mock.lastCall?.[0]]).toEqual(['2/2', 'row 3']);
    box.step(-1);
    expect([text(), goTo.mock.lastCall?.[0]]).toEqual(['1/2', 'row 1']);
    box.step(-1);
    expect(text()).toBe('2/2');
  });

  it('filters, and takes the filter back', () => {
    const { box, query, input } = made();
    type(input, 'odd');
    expect(query.filter.text).toBe('');
    box.setMode('filter');
    expect(query.filter.text).toBe('odd');
    box.setMode('find');
    expect(query.filter.text).toBe('');
  });

  it('shows what is wrong with an expression', () => {
    const { box, query, input, text } = made();
    box.setMode('filter');
    query.problem = 'Unterminated group';
    type(input, '(');
    expect(text()).toBe('Unterminated group');
    expect(input.getAttribute('aria-invalid')).toBe('true');
  });
});

describe('the footer', () => {
  it('shows receipt, hidden lines, and a lost connection', () => {
    const session = new FakeSession();
    const query = new FakeQuery(session, [line(1, 'x')]);
    const clear = vi.fn();
    const footer = new Footer(session, query, 1, clear);
    session.lastReceipt = { cell: 1, text: '3/4 procs, 12 lines, late: 2', complete: false };
    query.hidden = 1200;
    footer.show();
    expect(footer.node.querySelector('.lm-receipt')?.textContent).toBe('✕ not complete: 3/4 procs, 12 lines, late: 2');
    const hidden = footer.node.querySelector('button');
    expect(hidden?.textContent).toBe('1,200 hidden by filters · clear');
    hidden?.click();
    expect(clear).toHaveBeenCalled();
    session.connected = false;
    footer.show();
    expect(footer.node.querySelector('.lm-trouble')?.textContent).toContain('connection to the kernel lost');
  });
});
