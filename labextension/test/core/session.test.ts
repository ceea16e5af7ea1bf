import { describe, expect, it, vi } from 'vitest';
import { Query } from '../../src/core/query';
import { Session, sessionOf } from '../../src/core/session';
import type { StateMessage } from '../../src/core/protocol';
import { FakeKernel, FakeTransport, HandScheduler, last } from './kernel';

function setUp(): {
  session: Session; scheduler: HandScheduler; transport: FakeTransport; kernel: FakeKernel;
} {
  const scheduler = new HandScheduler();
  const session = new Session('s', { scheduler });
  const transport = new FakeTransport();
  session.attach(transport);
  return { session, scheduler, transport, kernel: new FakeKernel() };
}

function state(n: number, change: Partial<StateMessage> = {}): StateMessage {
  return {
    logmesh: 1, session: 's', n, type: 'state', mesh: 'running', host: 'h', atOnce: true, rows: 0,
    cell: 1, busy: false, trouble: '',
    mode: { stream: true, window: null, level: 20, autoflush: true },
    ...change
  };
}

describe('a session', () => {
  it('greets until a state comes', () => {
    const { scheduler, transport, session } = setUp();
    expect(transport.ofType('hello')).toMatchObject([{ have: 0, session: 's', logmesh: 1 }]);
    scheduler.run(6100);
    expect(transport.ofType('hello')).toHaveLength(3);
    transport.receive(state(1));
    scheduler.run(100_000);
    expect(transport.ofType('hello')).toHaveLength(3);
    expect(session.mode?.level).toBe(20);
  });

  it('greets a kernel that is silent less and less often', () => {
    const { scheduler, transport } = setUp();
    scheduler.run(61_000); // at 0, 2, 6, 14, 30, 60 seconds
    expect(transport.ofType('hello')).toHaveLength(6);
    scheduler.run(600_000);
    expect(transport.ofType('hello')).toHaveLength(26);
  });

  it('lets one greeting wait where somebody is there but does not hear', () => {
    const { scheduler, transport, kernel } = setUp();
    for (let second = 0; second < 25; second += 1) {
      kernel.add('a');
      kernel.n += second % 3 === 2 ? 1 : 0; // a message is lost
      const { message, buffer } = kernel.rows(second, second + 1, { live: true });
      transport.receive(message, buffer);
      scheduler.run(1000);
    }
    expect(transport.ofType('hello')).toHaveLength(1);
    transport.receive(state(++kernel.n, { busy: true, atOnce: false }));
    for (let second = 0; second < 60; second += 1) {
      kernel.n += 2;
      transport.receive(state(kernel.n, { busy: true, atOnce: false }));
      scheduler.run(100);
    }
    // Messages are lost all the time: once in five seconds.
    expect(transport.ofType('hello').length).toBeLessThanOrEqual(3);
  });

  it('greets again where the greeting was answered and the state is lost', () => {
    const { scheduler, transport } = setUp();
    const { id } = transport.ofType('hello')[0] ?? { id: '' };
    transport.receive({ logmesh: 1, session: 's', n: 2, type: 'reply', id, ok: true });
    return Promise.resolve().then(() => Promise.resolve()).then(() => {
      scheduler.run(3000);
      expect(transport.ofType('hello')).toHaveLength(2);
    });
  });

  it('sends a fetch again that is not answered, twice, and then says so', async () => {
    const { session, transport, scheduler } = setUp();
    transport.receive(state(1));
    const fetched = session.fetch(0, 10);
    const failed = expect(fetched).rejects.toThrow('not answered');
    scheduler.run(14_000);
    expect(transport.ofType('fetch')).toHaveLength(1);
    scheduler.run(2000);
    expect(transport.ofType('fetch')).toHaveLength(2);
    transport.receive(state(3)); // a message is lost: perhaps the answer
    scheduler.run(1100);
    const sent = transport.ofType('fetch');
    expect(sent).toHaveLength(3);
    expect(new Set(sent.map(({ id }) => id)).size).toBe(1);
    scheduler.run(60_000);
    expect(transport.ofType('fetch')).toHaveLength(3);
    await failed;
  });

  it('resolves a fetch whose first answer is lost', async () => {
    const { session, transport, scheduler } = setUp();
    transport.receive(state(1));
    const fetched = session.fetch(0, 10);
    scheduler.run(16_000);
    const { id } = last(transport.ofType('fetch')) ?? { id: '' };
    transport.receive({ logmesh: 1, session: 's', n: 2, type: 'reply', id, ok: true, next: 10 });
    await expect(fetched).resolves.toBeUndefined();
    scheduler.run(60_000);
    expect(transport.ofType('fetch')).toHaveLength(2);
  });

  it('gives other requests up, but not while the kernel cannot hear', async () => {
    const { session, transport, scheduler } = setUp();
    transport.receive(state(1, { busy: true, atOnce: false }));
    let error = '';
    const asked = session.request({ type: 'flush' }).catch((why: unknown) => (error = String(why)));
    const settled = async (): Promise<void> => {
      for (let turn = 0; turn < 5; turn += 1) {
        await Promise.resolve();
      }
    };
    scheduler.run(600_000);
    await settled();
    expect(error).toBe('');
    transport.receive(state(2));
    scheduler.run(29_000);
    await settled();
    expect(error).toBe('');
    scheduler.run(2000);
    await asked;
    expect(error).toContain('30 seconds');
    expect(transport.ofType('flush')).toHaveLength(1);
  });

  it('asks the newest transport that is open, and hears each message once', () => {
    const { session, transport, kernel, scheduler } = setUp();
    const other = new FakeTransport();
    session.attach(other);
    kernel.add('a');
    const { message, buffer } = kernel.rows(0, 1, { live: true });
    let heard = 0;
    session.on('rows', () => (heard += 1));
    transport.receive(message, buffer);
    other.receive(message, buffer);
    expect(heard).toBe(1);
    void session.request({ type: 'flush' }).catch(() => undefined);
    expect(other.ofType('flush')).toHaveLength(1);
    other.dispose();
    expect(session.connected).toBe(true);
    void session.request({ type: 'flush' }).catch(() => undefined);
    expect(transport.ofType('flush')).toHaveLength(1);
    transport.dispose();
    expect(session.connected).toBe(false);
    scheduler.run(10);
  });

  it('resolves requests by their replies, and only its own', async () => {
    const { session, transport } = setUp();
    const answer = session.request({ type: 'set_mode', level: 10 });
    const { id } = transport.ofType('set_mode')[0] ?? { id: '' };
    transport.receive({ logmesh: 1, session: 's', n: 1, type: 'reply', id: 'another', ok: false });
    transport.receive({ logmesh: 1, session: 'x', n: 2, type: 'reply', id, ok: false });
    transport.receive({ logmesh: 1, session: 's', n: 3, type: 'reply', id, ok: true, text: 'level DEBUG' });
    await expect(answer).resolves.toBe('level DEBUG');
    const refused = session.request({ type: 'flush' });
    const second = transport.ofType('flush')[0]?.id;
    transport.receive({ logmesh: 1, session: 's', n: 4, type: 'reply', id: second, ok: false, error: 'no' });
    await expect(refused).rejects.toThrow('no');
    const lost = session.request({ type: 'flush' });
    transport.dispose();
    await expect(lost).rejects.toThrow('connection');
    await expect(session.request({ type: 'flush' })).rejects.toThrow('connection');
  });

  it('fetches rows that are missing between live messages, twice at most', () => {
    const { transport, kernel, scheduler } = setUp();
    transport.receive(state(++kernel.n));
    kernel.add('a', 'b', 'c', 'd');
    const first = kernel.rows(0, 1, { live: true });
    transport.receive(first.message, first.buffer);
    const last = kernel.rows(3, 4, { live: true });
    transport.receive(last.message, last.buffer);
    scheduler.run(199);
    expect(transport.ofType('fetch')).toHaveLength(0);
    scheduler.run(2);
    expect(transport.ofType('fetch')).toMatchObject([{ first: 1, end: 3 }]);
    scheduler.run(20_000);
    expect(transport.ofType('fetch')).toHaveLength(2);
  });

  it('does not ask for missing rows that have come meanwhile', () => {
    const { transport, kernel, scheduler } = setUp();
    kernel.add('a', 'b', 'c');
    for (const [from, to] of [[0, 1], [2, 3]] as const) {
      const { message, buffer } = kernel.rows(from, to, { live: true });
      transport.receive(message, buffer);
    }
    const { message, buffer } = kernel.rows(1, 2);
    transport.receive(message, buffer);
    scheduler.run(10_000);
    expect(transport.ofType('fetch')).toHaveLength(0);
  });

  it('greets again where numbers of messages are missing', () => {
    const { transport, scheduler, kernel } = setUp();
    transport.receive(state(1));
    kernel.n = 1;
    kernel.add('a', 'b');
    const { message, buffer } = kernel.rows(0, 2, { live: true });
    transport.receive(message, buffer);
    const before = transport.ofType('hello').length;
    transport.receive(state(9));
    transport.receive(state(11));
    scheduler.run(300);
    expect(transport.ofType('hello')).toHaveLength(before + 1);
    expect(last(transport.ofType('hello'))).toMatchObject({ have: 2 });
  });

  it('asks for all as long as the first rows are not known of', () => {
    const { transport, kernel, scheduler } = setUp();
    kernel.add('a', 'b', 'c', 'd', 'e', 'f');
    transport.receive(state(1, { firstRow: 2 }));
    kernel.n = 2; // the history that a message 2 told of is lost
    const live = kernel.rows(4, 6, { live: true });
    transport.receive(live.message, live.buffer);
    scheduler.run(6000);
    expect(last(transport.ofType('hello'))).toMatchObject({ have: 2 });
    const { message, buffer } = kernel.rows(2, 4);
    transport.receive(message, buffer);
    transport.receive(state(9, { firstRow: 2 }));
    scheduler.run(6000);
    expect(last(transport.ofType('hello'))).toMatchObject({ have: 6 });
  });

  it('fetches page after page, and says meanwhile that it loads', async () => {
    const { session, transport, kernel, scheduler } = setUp();
    kernel.add('a', 'b', 'c', 'd');
    const skip = { first: 0, end: 3, cells: [[1, 3, 0, 3]] as [number, number, number, number][], wall: [1, 2] as [number, number], groups: [], others: 3 };
    const start = kernel.rows(0, 4, { live: true, skips: [skip] });
    transport.receive(start.message, start.buffer);
    const query = new Query(session);
    const done = session.fetch(0, 3);
    scheduler.settle();
    expect(query.item(0)).toMatchObject({ kind: 'skip', loading: true });
    for (const [first, end] of [[0, 2], [2, 3]] as const) {
      const { message, buffer } = kernel.rows(first, end);
      transport.receive(message, buffer);
      const { id } = last(transport.ofType('fetch')) ?? { id: '' };
      transport.receive({ logmesh: 1, session: 's', n: ++kernel.n, type: 'reply', id, ok: true, next: end });
      await Promise.resolve();
      await Promise.resolve();
      await Promise.resolve();
      await Promise.resolve();
    }
    await done;
    scheduler.settle();
    expect(transport.ofType('fetch')).toMatchObject([{ first: 0, end: 3 }, { first: 2, end: 3 }]);
    expect(query.length).toBe(4);
  });

  it('says of the rest of a range that it does not load, once a part of it has come', async () => {
    const { session, transport, kernel, scheduler } = setUp();
    kernel.add('a', 'b', 'c', 'd');
    const skip = { first: 0, end: 3, cells: [[1, 3, 0, 3]] as [number, number, number, number][], wall: [1, 2] as [number, number], groups: [], others: 3 };
    const start = kernel.rows(0, 4, { live: true, skips: [skip] });
    transport.receive(start.message, start.buffer);
    const query = new Query(session);
    const done = session.fetch(2, 3);
    scheduler.settle();
    expect(query.item(0)).toMatchObject({ kind: 'skip', loading: true });
    const { message, buffer } = kernel.rows(2, 3);
    transport.receive(message, buffer);
    const { id } = last(transport.ofType('fetch')) ?? { id: '' };
    transport.receive({ logmesh: 1, session: 's', n: ++kernel.n, type: 'reply', id, ok: true, next: 3 });
    await done;
    scheduler.settle();
    expect(query.item(0)).toMatchObject({ kind: 'skip', first: 0, end: 2, loading: false });
  });

  it('learns the receipts of all cells from the state that answers it', () => {
    const { session, transport } = setUp();
    transport.receive({ ...state(1), receipts: [[1, '2/2 procs', true], [4, '1/2 procs', false]] });
    expect(session.receipt(1)).toEqual({ cell: 1, text: '2/2 procs', complete: true });
    expect(session.lastReceipt).toMatchObject({ cell: 4, complete: false });
    transport.receive(state(2));
    expect(session.receipt(1)?.text).toBe('2/2 procs');
  });

  it('puts files together from their parts', async () => {
    const { session, transport } = setUp();
    const parts: number[] = [];
    const file = session.download('text', 1, [0], part => parts.push(part));
    const { id } = transport.ofType('download')[0] ?? { id: '' };
    const common = { logmesh: 1, session: 's', type: 'file', id, parts: 2, name: 'a.log', mime: 'text/plain' };
    const bytes = (text: string): DataView => new DataView(new TextEncoder().encode(text).buffer);
    transport.receive({ ...common, n: 2, part: 1 }, bytes('world'));
    transport.receive({ ...common, n: 1, part: 0 }, bytes('hello '));
    transport.receive({ logmesh: 1, session: 's', n: 3, type: 'reply', id, ok: true, text: 'a.log' });
    const { name, blob } = await file;
    expect([name, await blob.text(), parts]).toEqual(['a.log', 'hello world', [0.5, 1]]);
  });

  it('tells rates and ages of procs as of now', () => {
    const { session, transport, scheduler } = setUp();
    const procs = (n: number, now: number, lines: number): object => ({
      logmesh: 1, session: 's', n, type: 'procs', full: n === 1, now,
      procs: [[5, 1, '', 'h', 77, 'running', null, lines, now - 1, 0, 0]]
    });
    transport.receive(procs(1, 100, 0));
    scheduler.run(1000);
    transport.receive(procs(2, 101, 500));
    scheduler.run(1000);
    transport.receive(procs(3, 102, 1000));
    expect(session.procs).toMatchObject([{ id: 5, rank: 1, rate: 500, age: 1, lines: 1000 }]);
    expect(session.rate).toBe(500);
    scheduler.run(10_000);
    expect(session.rate).toBe(0);
    expect(session.procs[0]?.age).toBe(11);
    expect(session.sources.get(5)).toEqual({ id: 5, rank: 1, job: '', host: 'h', pid: 77 });
  });

  it('keeps receipts', () => {
    const { session, transport } = setUp();
    const told: unknown[] = [];
    session.on('receipt', receipt => told.push(receipt));
    transport.receive({ logmesh: 1, session: 's', n: 1, type: 'receipt', cell: 3, text: '4/4', complete: true });
    expect(session.receipt(3)).toEqual({ cell: 3, text: '4/4', complete: true });
    expect(session.receipt(2)).toBeNull();
    expect(told).toEqual([session.lastReceipt]);
  });

  it('greets again for sources that it does not know, but not all the time', () => {
    const { transport, scheduler, kernel } = setUp();
    transport.receive(state(++kernel.n));
    const before = transport.ofType('hello').length;
    for (let row = 0; row < 5; row += 1) {
      kernel.add('a');
      const { message, buffer } = kernel.rows(row, row + 1, { live: true });
      transport.receive({ ...message, sources: [] }, buffer);
      scheduler.run(300);
    }
    expect(transport.ofType('hello')).toHaveLength(before + 1);
  });

  it('is one for all who ask by its id', () => {
    expect(sessionOf('one')).toBe(sessionOf('one'));
    expect(sessionOf('one')).not.toBe(sessionOf('two'));
  });

  it('gives up its rows when it has neither connection nor list, and leaves when nobody listens', () => {
    const scheduler = new HandScheduler();
    let retired = 0;
    const session = new Session('s', { scheduler, onRetire: () => (retired += 1) });
    const kernel = new FakeKernel();
    kernel.add('a', 'b');
    const connect = (): FakeTransport => {
      const transport = new FakeTransport();
      session.attach(transport);
      transport.receive(state(++kernel.n));
      const { message, buffer } = kernel.rows(0, 2);
      transport.receive(message, buffer);
      return transport;
    };
    const first = connect();
    const query = new Query(session);
    scheduler.run(10_000);
    first.dispose();
    scheduler.run(10_000);
    expect([query.length, session.store.held]).toEqual([2, 2]); // what is shown stays
    query.dispose();
    connect().dispose();
    const second = connect();
    scheduler.run(10_000);
    expect(session.store.held).toBe(2); // it has come back in time
    const undo = session.on('state', () => undefined);
    second.dispose();
    scheduler.run(10_000);
    expect([session.store.held, retired]).toEqual([0, 0]);
    const third = connect();
    expect(third.ofType('hello')).toMatchObject([{ have: 0 }]);
    expect(session.store.held).toBe(2);
    undo();
    third.dispose();
    scheduler.run(10_000);
    expect([session.store.held, retired]).toEqual([0, 1]);
  });

  it('leaves the registry when nobody needs it any more', () => {
    vi.useFakeTimers();
    const session = sessionOf('three');
    const transport = new FakeTransport();
    session.attach(transport);
    vi.advanceTimersByTime(10_000);
    expect(sessionOf('three')).toBe(session);
    transport.dispose();
    vi.advanceTimersByTime(10_000);
    expect(sessionOf('three')).not.toBe(session);
    vi.useRealTimers();
  });
});
