import { describe, expect, it } from 'vitest';
import type { BlockItem, Item } from '../../src/core/api';
import { Query } from '../../src/core/query';
import { Session } from '../../src/core/session';
import { FakeKernel, FakeTransport, HandScheduler } from './kernel';
import type { Line } from './kernel';

const FRAMES = [
  'Traceback (most recent call last):',
  '  File "/a/train.py", line 3, in <module>',
  '    f()',
  '    ~^^',
  '  File "/a/train.py", line 2, in f'
];
const SIMPLE = [...FRAMES, 'ValueError: no such file'];
const AND = 'During handling of the above exception, another exception occurred:';
const CAUSE = 'The above exception was the direct cause of the following exception:';

function lines(texts: readonly string[], source = 0): Line[] {
  return texts.map(text => ({ text, source, target: 2 }));
}

/** The streams' lines in turn. */
function interleaved(...streams: Line[][]): Line[] {
  const most = Math.max(...streams.map(stream => stream.length));
  return Array.from({ length: most }, (_, at) => streams.flatMap(stream => stream[at] ?? [])).flat();
}

function itemsOf(all: readonly Line[], rowsPerMessage: number, grouped = false): Item[] {
  const kernel = new FakeKernel();
  const scheduler = new HandScheduler();
  const session = new Session('s', { scheduler });
  const transport = new FakeTransport();
  session.attach(transport);
  kernel.add(...all);
  const query = new Query(session);
  query.setGrouped(grouped);
  for (let first = 0; first < all.length; first += rowsPerMessage) {
    const end = Math.min(first + rowsPerMessage, all.length);
    const { message, buffer } = kernel.rows(first, end, { live: true });
    transport.receive(message, buffer);
    scheduler.run(1);
  }
  scheduler.run(50);
  expect(query.shown).toBe(all.length);
  expect(query.hidden).toBe(0);
  return Array.from({ length: query.length }, (_, index) => query.item(index));
}

function blocks(items: readonly Item[]): BlockItem[] {
  return items.filter(item => item.kind === 'block');
}

describe.each([1, 2, 5, 1000])('tracebacks, %i rows a message', rows => {
  it('are one item, and what stands around them is not in it', () => {
    const items = itemsOf(lines(['before', ...SIMPLE, 'after']), rows);
    expect(items.map(item => item.kind)).toEqual(['line', 'block', 'line']);
    expect(items[1]).toMatchObject({
      title: 'ValueError: no such file', open: false, level: 40, row: 1, count: 1, ranks: [0]
    });
    expect(blocks(items)[0]?.lines).toEqual(SIMPLE);
  });

  it.each([AND, CAUSE])('are one item when chained: %s', sentence => {
    const chained = [...SIMPLE, '', sentence, '', ...FRAMES, 'KeyError: 1'];
    const items = itemsOf(lines([...chained, '', 'after']), rows);
    expect(items.map(item => item.kind)).toEqual(['block', 'line', 'line']);
    expect(items[0]).toMatchObject({ title: 'KeyError: 1', open: false });
    expect(blocks(items)[0]?.lines).toEqual(chained);
  });

  it('that several ranks say are one item with all ranks, but for addresses', () => {
    const of = (source: number): Line[] =>
      lines([...FRAMES, `ValueError: <object at 0x7f00000000${source}0>`], source);
    const items = itemsOf(interleaved(of(2), of(0), of(1), lines(['x', 'y'], 3)), rows);
    expect(blocks(items)).toHaveLength(1);
    expect(blocks(items)[0]).toMatchObject({ ranks: [0, 1, 2], count: 3 });
    expect(items).toHaveLength(3);
  });

  it('that differ are several items', () => {
    const items = itemsOf(
      interleaved(lines([...FRAMES, 'KeyError: 1'], 0), lines([...FRAMES, 'KeyError: 2'], 1)),
      rows
    );
    expect(blocks(items).map(({ title }) => title)).toEqual(['KeyError: 1', 'KeyError: 2']);
  });

  it("know torchrun's prefixes", () => {
    const of = (source: number): Line[] =>
      lines(
        [...SIMPLE.slice(0, -1), 'RuntimeError: CUDA error', 'For debugging consider'].map(
          text => `[rank${source}]: ${text}`
        ),
        source
      );
    const items = itemsOf(
      [...interleaved(of(0), of(1)), ...lines(['[rank0]:[W1023 12:00:00.1 x.cpp:1] Warning: y'], 0)],
      rows
    );
    expect(items.map(item => item.kind)).toEqual(['block', 'line']);
    expect(items[0]).toMatchObject({ ranks: [0, 1], count: 2, title: 'RuntimeError: CUDA error' });
    expect(blocks(items)[0]?.lines).toHaveLength(7);
  });

  it('are open until their end comes', () => {
    expect(itemsOf(lines(FRAMES), rows)).toMatchObject([
      { kind: 'block', open: true, title: FRAMES[4] }
    ]);
  });

  it('end by what cannot belong to them', () => {
    const items = itemsOf(lines([...FRAMES, '2026-01-01 12:00:00 something else']), rows);
    expect(items).toMatchObject([{ kind: 'block', open: false }, { kind: 'line' }]);
  });

  it('of exception groups are one item', () => {
    const group = [
      '  + Exception Group Traceback (most recent call last):',
      '  |   File "/a/x.py", line 2, in <module>',
      '  | ExceptionGroup: two (2 sub-exceptions)',
      '  +-+---------------- 1 ----------------',
      '    | Traceback (most recent call last):',
      '    |   File "/a/x.py", line 1, in f',
      '    | ValueError: 1',
      '    +------------------------------------'
    ];
    const items = itemsOf(lines([...group, 'after']), rows);
    expect(items.map(item => item.kind)).toEqual(['block', 'line']);
    expect(items[0]).toMatchObject({ title: 'ExceptionGroup: two (2 sub-exceptions)' });
  });

  it('are blocks among groups too', () => {
    const items = itemsOf(
      interleaved(lines(['step 1', ...SIMPLE, 'step 2'], 0), lines(['step 1', ...SIMPLE, 'step 2'], 1)),
      rows,
      true
    );
    expect(items).toMatchObject([
      { kind: 'group', count: 4, text: 'step <#>' },
      { kind: 'block', count: 2, ranks: [0, 1] }
    ]);
  });
});

describe('a traceback whose lines are not all there', () => {
  it('ends where its stream has a gap', () => {
    const kernel = new FakeKernel();
    const scheduler = new HandScheduler();
    const session = new Session('s', { scheduler });
    const transport = new FakeTransport();
    session.attach(transport);
    kernel.add(...lines(SIMPLE));
    const query = new Query(session);
    for (const [first, end] of [[0, 2], [4, 6]] as const) {
      const { message, buffer } = kernel.rows(first, end);
      transport.receive(message, buffer);
    }
    scheduler.run(10);
    const kinds = Array.from({ length: query.length }, (_, index) => query.item(index).kind);
    expect(kinds).toEqual(['block', 'skip', 'line', 'line']);
    const { message, buffer } = kernel.rows(2, 4);
    transport.receive(message, buffer);
    scheduler.run(10);
    expect(query.length).toBe(1);
    expect(query.item(0)).toMatchObject({ kind: 'block', open: false });
    expect(session.errors).toBe(1);
  });
});

describe('what comes later', () => {
  function sender(): { query: Query; send: (...more: Line[]) => void } {
    const kernel = new FakeKernel();
    const scheduler = new HandScheduler();
    const session = new Session('s', { scheduler });
    const transport = new FakeTransport();
    session.attach(transport);
    return {
      query: new Query(session),
      send: (...more) => {
        const first = kernel.lines.length;
        kernel.add(...more);
        const { message, buffer } = kernel.rows(first, kernel.lines.length, { live: true });
        transport.receive(message, buffer);
        scheduler.run(1);
      }
    };
  }

  it('counts in an equal block, and is told', () => {
    const { query, send } = sender();
    const told: string[] = [];
    query.on('grown', () => told.push('grown'));
    query.on('changed', () => told.push('changed'));
    send(...lines(SIMPLE, 0));
    send(...lines(SIMPLE, 1));
    expect(told).toEqual(['grown', 'changed']);
    expect(query.item(0)).toMatchObject({ count: 2, ranks: [0, 1] });
    expect(query.length).toBe(1);
    expect(query.indexOf('b6')).toBe(0);
    expect(query.indexOf('r8')).toBe(0);
  });

  it('goes on with a block in segments long before', () => {
    const { query, send } = sender();
    const plain = Array.from({ length: 4100 }, () => ({ text: 'plain', source: 1 }));
    send(...plain, ...lines(SIMPLE));
    send(...lines(['']), ...plain);
    expect(query.length).toBe(8202);
    send(...lines([AND, '', ...FRAMES, 'KeyError: 1']));
    expect(query.length).toBe(8201);
    expect(query.item(4100)).toMatchObject({ kind: 'block', title: 'KeyError: 1' });
    expect(query.item(4101)).toMatchObject({ kind: 'line', text: 'plain' });
  });
});
