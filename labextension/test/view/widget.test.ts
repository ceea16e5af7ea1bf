// @vitest-environment jsdom
import { expect, it, vi } from 'vitest';
import { sessionOf } from '../../src/core/session';
import { type Model, render } from '../../src/widget/index';

type Listener = (...values: never[]) => void;

class FakeModel implements Model {
  readonly listeners = new Map<string, Set<Listener>>();
  readonly send = vi.fn<Model['send']>();
  comm_live = true;

  constructor(private readonly values: Record<string, unknown> = {}) {}

  get(name: string): unknown {
    return this.values[name];
  }

  on(event: string, callback: Listener): void {
    const listeners = this.listeners.get(event) ?? new Set();
    this.listeners.set(event, listeners.add(callback));
  }

  off(event: string, callback: Listener): void {
    this.listeners.get(event)?.delete(callback);
  }

  emit(event: string, ...values: unknown[]): void {
    this.listeners.get(event)?.forEach(listener => (listener as (...values: unknown[]) => void)(...values));
  }
}

const STATE = {
  logmesh: 1, n: 0, type: 'state', mesh: 'running', host: 'h', atOnce: true, rows: 0, cell: 1, busy: false, trouble: '',
  mode: { stream: true, window: null, level: 20, autoflush: true }
};

function rules(): string {
  return [...document.head.querySelectorAll('style')].map(style => style.textContent).join('');
}

function shown(session: string, cell: number | null, hub: Model): { el: HTMLElement; end: () => void } {
  const el = document.createElement('div');
  document.body.append(el);
  return { el, end: render({ model: new FakeModel({ session, cell }), el, hub }) };
}

it('views of one session share its connection', () => {
  const hub = new FakeModel();
  const first = shown('one', 1, hub);
  const second = shown('one', 2, hub);
  expect(hub.listeners.get('msg:custom')?.size).toBe(1);
  expect(sessionOf('one').connected).toBe(true);
  first.end();
  expect(first.el.childElementCount).toBe(0);
  hub.emit('msg:custom', { ...STATE, session: 'one' }, []);
  expect(sessionOf('one').state?.mesh).toBe('running');
  second.end();
});

it('view and snapshot change places once the kernel answers, and back at the end', () => {
  const hub = new FakeModel();
  const { el, end } = shown('two', 7, hub);
  expect(rules()).not.toContain('logmesh-of-two-7');
  expect(el.querySelector<HTMLElement>('.lm-root')?.hidden).toBe(true);
  hub.emit('msg:custom', { ...STATE, session: 'two' }, []);
  expect(el.querySelector<HTMLElement>('.lm-root')?.hidden).toBe(false);
  expect(rules()).toContain('.logmesh-of-two-7{display:none}');
  end();
  expect(rules()).not.toContain('logmesh-of-two-7');
});

it('takes rows from the buffer beside a message', () => {
  const hub = new FakeModel();
  const { end } = shown('three', 1, hub);
  const bytes = new TextEncoder().encode('hello\n');
  const buffer = new DataView(bytes.buffer);
  hub.emit('msg:custom', { ...STATE, session: 'three' }, []);
  hub.emit(
    'msg:custom',
    {
      logmesh: 1, session: 'three', n: 1, type: 'rows', live: true, first: 0, end: 1, sources: [[0, 0, '', 'h', 1]],
      chunks: [[0, 1, 1, 0, 0, 1, 5, 6]], marks: [], skips: []
    },
    [buffer]
  );
  expect(sessionOf('three').rows).toBe(1);
  end();
});

it('a closed comm is a lost connection, and a new widget mends it', () => {
  const hub = new FakeModel();
  const { end } = shown('four', 1, hub);
  hub.emit('comm:close');
  expect(sessionOf('four').connected).toBe(false);
  const again = shown('four', 1, new FakeModel());
  expect(sessionOf('four').connected).toBe(true);
  end();
  again.end();
});

it('a restart of the kernel is a lost connection, though no comm is closed', () => {
  const hub = new FakeModel();
  const { end } = shown('six', 1, hub);
  hub.emit('comm_live_update');
  expect(sessionOf('six').connected).toBe(true);
  hub.comm_live = false;
  hub.emit('comm_live_update');
  expect(sessionOf('six').connected).toBe(false);
  expect([...hub.listeners.values()].map(listeners => listeners.size)).toEqual([0, 0, 0, 0]);
  const late = shown('six', 1, hub);
  expect(sessionOf('six').connected).toBe(false);
  end();
  late.end();
});

it('shows the whole mesh where there is no cell', () => {
  const hub = new FakeModel();
  const { el, end } = shown('five', null, hub);
  hub.emit('msg:custom', { ...STATE, session: 'five' }, []);
  expect(el.querySelector('[aria-label="Cell"]')).not.toBeNull();
  expect(rules()).toContain('.logmesh-of-five-all{display:none}');
  end();
});
