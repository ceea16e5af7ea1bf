import { describe, expect, it } from 'vitest';
import type { GroupItem, Item } from '../../src/core/api';
import { detached } from '../../src/core/detached';
import { levelOf } from '../../src/core/levels';
import type { SkipGroupTuple, TemplateTuple } from '../../src/core/protocol';
import { EVERYTHING, Query } from '../../src/core/query';
import { Session } from '../../src/core/session';
import { Templates, templateText } from '../../src/core/templates';
import { FakeKernel, FakeTransport, HandScheduler, randomFrom } from './kernel';

const STEP: TemplateTuple = [1, 1, ['step ', ''], '#', 20];
const JOB: TemplateTuple = [2, 2, ['job ', ' of ', ''], '#*', 20];

describe('templates', () => {
  it('become part of others, over several steps, whatever is told first', () => {
    const templates = new Templates();
    templates.learn([[3, 2, [], '', 0]], 1);
    templates.learn([[2, 1, [], '', 0]], 2);
    expect([1, 2, 3, 4].map(id => templates.find(id))).toEqual([1, 1, 1, 4]);
    expect([templates.shape(3), templates.level(3)]).toEqual([null, null]);
    templates.learn([STEP], 3);
    expect(templates.shape(3)).toEqual({ pieces: ['step ', ''], kinds: '#' });
    expect([templates.level(3), templates.knows(3), templates.knows(4)]).toEqual([20, true, false]);
  });

  it('told again are the same; what an older message told does not come back', () => {
    const templates = new Templates();
    templates.learn([STEP], 5);
    const shape = templates.shape(1);
    templates.learn([[1, 1, ['step ', ''], '#', 20]], 7);
    expect(templates.shape(1)).toBe(shape);
    expect([templates.revision, templates.splits, templates.relevels]).toEqual([0, 0, 0]);
    templates.learn([[1, 1, ['step ', ' of ', ''], '##', 20]], 8);
    templates.learn([STEP], 6);
    expect(templates.shape(1)?.kinds).toBe('##');
    templates.learn([[1, 2, [], '', 0]], 9);
    templates.learn([STEP], 8);
    expect(templates.find(1)).toBe(2);
    expect([templates.revision, templates.splits]).toEqual([1, 0]);
  });

  it('tell that answers have changed only where somebody may have asked', () => {
    const templates = new Templates();
    templates.learn([[7, 6, [], '', 0]], 1);
    templates.learn([[6, 6, ['a'], '', 30]], 2);
    expect(templates.revision).toBe(0);
    expect([templates.find(9), templates.level(9)]).toEqual([9, null]);
    templates.learn([[9, 6, [], '', 0]], 3);
    expect([templates.revision, templates.relevels]).toEqual([1, 1]);
  });

  it('of which a shorter path is told stay what they are, in whatever order', () => {
    for (const late of [[[3, 1, [], '', 0], [2, 1, [], '', 0]], [[2, 1, [], '', 0], [3, 1, [], '', 0]]] as TemplateTuple[][]) {
      const templates = new Templates();
      templates.learn([STEP, JOB, [3, 3, ['x'], '', 20]], 1);
      templates.learn([[3, 2, [], '', 0]], 2);
      templates.learn(late, 3);
      expect([1, 2, 3].map(id => templates.find(id))).toEqual([1, 1, 1]);
      expect([templates.revision, templates.splits, templates.relevels]).toEqual([2, 0, 0]);
    }
  });

  it('that stand for themselves again are told apart', () => {
    const templates = new Templates();
    templates.learn([STEP], 1);
    templates.learn([[2, 1, [], '', 0]], 2);
    templates.learn([[3, 2, [], '', 0]], 3);
    expect(templates.find(3)).toBe(1);
    templates.learn([JOB], 4);
    expect([1, 2, 3].map(id => templates.find(id))).toEqual([1, 2, 2]);
    expect(templates.splits).toBe(1);
  });

  it('that are told in a circle, or make no sense, do no harm', () => {
    const templates = new Templates();
    templates.learn([[1, 2, [], '', 0]], 1);
    templates.learn([[2, 3, [], '', 0]], 2);
    templates.learn([[3, 1, [], '', 0]], 3);
    expect(new Set([1, 2, 3].map(id => templates.find(id))).size).toBe(1);
    templates.learn([[4, 4, ['only one piece'], '##', 0]], 4);
    templates.learn([[0, 4, [], '', 0]], 4);
    expect([templates.shape(4), templates.find(0)]).toEqual([null, 0]);
    templates.learn([[5, 5, ['a', 'b', 'c'], '#?', 0]], 4);
    expect(templates.shape(5)).toEqual({ pieces: ['a', 'b', 'c'], kinds: '#*' });
  });

  it('are readable as text', () => {
    expect(templateText({ pieces: ['step ', ': ', ''], kinds: '#*' })).toBe('step <#>: <*>');
  });
});

it('a detached text is the same', () => {
  expect(detached('\ufeffgr\u00fc\u00df \ud83d\ude00')).toBe('\ufeffgr\u00fc\u00df \ud83d\ude00');
});

interface Page { session: Session; query: Query; scheduler: HandScheduler; transport: FakeTransport; kernel: FakeKernel }

function page(window: number | null = null, bounds?: { lines: number; bytes: number }): Page {
  const scheduler = new HandScheduler();
  const session = new Session('s', { scheduler, ...(bounds && { bounds }) });
  const transport = new FakeTransport();
  session.attach(transport);
  const kernel = new FakeKernel();
  transport.receive({
    logmesh: 1, session: 's', n: ++kernel.n, type: 'state', mesh: 'running', host: 'h', atOnce: true,
    rows: 0, cell: 1, busy: false, trouble: '', mode: { stream: true, window, level: 20, autoflush: true }
  });
  const query = new Query(session);
  query.setGrouped(true);
  return { session, query, scheduler, transport, kernel };
}

function give({ kernel, transport, scheduler }: Page, first: number, end: number): void {
  const { message, buffer } = kernel.rows(first, end, { live: true });
  transport.receive(message, buffer);
  scheduler.run(5);
}

function itemsOf(query: Query): Item[] {
  return Array.from({ length: query.length }, (_, index) => query.item(index));
}

function groupsOf(query: Query): GroupItem[] {
  return itemsOf(query).filter(item => item.kind === 'group');
}

describe('groups of templates', () => {
  it('are joined when a template becomes part of another, and their ids go on', () => {
    const all = page();
    all.kernel.add('step 1', 'worker 7', { text: 'step a', source: 1 }, 'step 3');
    give(all, 0, 4);
    const [first, second, third] = groupsOf(all.query).map(({ id }) => id) as [string, string, string];
    expect(groupsOf(all.query)).toMatchObject([
      { text: 'step <#>', count: 2 }, { text: 'worker 7', count: 1 }, { text: 'step a', count: 1 }
    ]);
    // A new template takes in both.
    all.kernel.templates.set(9, [9, 9, ['step ', ''], '*', 0]);
    all.kernel.merge(all.kernel.like('step 1'), 9);
    all.kernel.merge(all.kernel.like('step a'), 9);
    all.transport.receive(all.kernel.telling(9, all.kernel.like('step a'), all.kernel.like('step 1')));
    all.scheduler.run(5);
    expect(groupsOf(all.query)).toMatchObject([
      { text: 'step <*>', count: 3, held: 3, ranks: [0, 1], differs: true }, { text: 'worker 7', count: 1 }
    ]);
    expect([first, second, third].map(id => all.query.indexOf(id))).toEqual([0, 1, 0]);
    expect(all.query.groupLines(third, null, 10).map(({ text }) => text)).toEqual(['step 1', 'step a', 'step 3']);
  });

  it.each(Array.from({ length: 40 }, (_, at) => 900 + at))(
    'are the same however late it is told what is alike (seed %i)',
    seed => {
      const random = randomFrom(seed);
      const pick = (most: number): number => Math.floor(random() * most);
      const all = page([null, 3][seed % 2]);
      const { kernel } = all;
      const texts = Array.from({ length: 12 }, (_, at) => `kind${'abcdefghijkl'[at]} `);
      const ids = texts.map(text => kernel.like(`${text}1`));
      kernel.add(...Array.from({ length: 200 }, (_, row) => ({
        text: `${texts[pick(12)]}${pick(3)}`, source: pick(3), cell: 1 + pick(2), wall: 1000 + row / 20
      })));
      for (let first = 0; first < 200; first += 10) {
        kernel.sendsTemplates = random() < 0.5;
        give(all, first, first + 10);
        for (let merge = 0; merge < pick(3); merge += 1) {
          const roots = ids.filter(id => kernel.templates.get(id)?.[1] === id);
          const [one, other] = [roots[pick(roots.length)] as number, roots[pick(roots.length)] as number];
          if (one !== other) {
            kernel.merge(one, other);
          }
        }
        if (random() < 0.3) {
          all.query.setFilter({ ...EVERYTHING, ranks: random() < 0.5 ? new Set([0, 1]) : null });
        }
      }
      all.transport.receive(kernel.telling(...ids));
      all.scheduler.run(100);
      const rootOf = (id: number): number => {
        const into = kernel.templates.get(id)?.[1] as number;
        return into === id ? id : rootOf(into);
      };
      const { ranks } = all.query.filter;
      const counts = new Map<string, number>();
      const opened = new Map<number, [number, number]>();
      for (const line of kernel.lines.filter(each => ranks?.has(each.source) ?? true)) {
        const cell = seed % 2 ? line.cell : -1;
        let window = opened.get(cell);
        if (window === undefined || (seed % 2 && line.wall >= window[0] + 3)) {
          window = [line.wall, line.row];
          opened.set(cell, window);
        }
        const key = `${window[1]} ${rootOf(line.template)}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
      const groups = groupsOf(all.query);
      expect(groups.map(({ count }) => count).sort()).toEqual([...counts.values()].sort());
      // Joined as it came, they are what a list that reads all of it now has.
      const again = new Query(all.session, all.query.filter);
      again.setGrouped(true);
      all.scheduler.run(100);
      expect(itemsOf(all.query)).toEqual(itemsOf(again));
      for (const { id, count } of groups) {
        expect(all.query.groupLines(id, null, 1000)).toHaveLength(count);
      }
    }
  );

  it('are not joined by levels, targets or jobs; others not by different levels', () => {
    const all = page();
    all.kernel.add(
      { text: 'a', template: 0 }, { text: 'ERROR: b', template: 0 }, { text: 'c', template: 0 },
      { text: 'c', template: 0, target: 2 }, { text: 'c', template: 0, source: 9 }
    );
    give(all, 0, 5);
    expect(groupsOf(all.query)).toMatchObject([
      { text: 'a', count: 2, differs: true, others: true, shape: null, level: 0 },
      { text: 'ERROR: b', count: 1, level: 40 },
      { text: 'c', target: 2, count: 1 },
      { text: 'c', job: 'job 1', count: 1 }
    ]);
  });

  it('of a kernel that tells no templates are the others, and nothing is missing', () => {
    const all = page();
    all.kernel.sendsIds = false;
    all.kernel.sendsTemplates = false;
    all.kernel.add('step 1', 'gr\u00fc\u00df', 'ERROR: x');
    const { message, buffer } = all.kernel.rows(0, 3, { live: true });
    delete message.templates;
    all.transport.receive(message, buffer);
    all.scheduler.run(20);
    expect(groupsOf(all.query)).toMatchObject([{ text: 'step 1', count: 2, others: true }, { text: 'ERROR: x' }]);
    all.query.setGrouped(false);
    expect(itemsOf(all.query)).toMatchObject([{ text: 'step 1' }, { text: 'gr\u00fc\u00df' }, { text: 'ERROR: x', level: 40 }]);
  });

  it('whose template never came show their first line, and the kernel is greeted for it', () => {
    const all = page();
    all.kernel.sendsTemplates = false;
    all.kernel.add('step 1', 'step 2');
    give(all, 0, 2);
    expect(groupsOf(all.query)).toMatchObject([{ text: 'step 1', count: 2, differs: true, shape: null, others: false }]);
    const greetings = all.transport.ofType('hello').length;
    all.scheduler.run(1000);
    expect(all.transport.ofType('hello').length).toBe(greetings + 1);
    all.transport.receive(all.kernel.telling(all.kernel.like('step 1')));
    all.scheduler.run(20);
    expect(groupsOf(all.query)).toMatchObject([{ text: 'step <#>', count: 2 }]);
  });

  it('whose template was told in a way that makes no sense show their first line, and nobody is greeted', () => {
    const all = page();
    all.kernel.add('step 1', 'step 2');
    all.kernel.templates.set(1, [1, 1, [], '##', 30]);
    const greetings = all.transport.ofType('hello').length;
    give(all, 0, 2);
    all.scheduler.run(60_000);
    expect(all.transport.ofType('hello').length).toBe(greetings);
    expect(groupsOf(all.query)).toMatchObject([{ text: 'step 1', count: 2, differs: true, shape: null, others: false, level: 30 }]);
    expect(all.query.values(groupsOf(all.query)[0]!.id, true)).toBeNull();
  });

  it('have the level of their template, also when it comes late, in all that counts levels', () => {
    const all = page();
    const { kernel, query } = all;
    kernel.sendsTemplates = false;
    kernel.add('disk is full 1', 'disk is full 2', 'fine');
    give(all, 0, 3);
    const plain = new Query(all.session, { minLevel: 30 });
    expect([query.errors, all.session.errors, plain.shown]).toEqual([0, 0, 0]);
    kernel.templates.set(1, [1, 1, ['disk is full ', ''], '#', 40]);
    all.transport.receive(kernel.telling(1, 2));
    all.scheduler.run(20);
    expect(groupsOf(query)).toMatchObject([{ level: 40, count: 2 }, { level: 0, count: 1 }]);
    expect([query.errors, all.session.errors, plain.shown, query.nextError(-1, 1)]).toEqual([2, 2, 2, 0]);
    expect(query.levels).toEqual([1, 0, 0, 0, 2, 0]);
    expect(query.histogram(10).bins.reduce((sum, { counts }) => sum + counts[4], 0)).toBe(2);
    kernel.sendsTemplates = true;
    kernel.add('disk is full 3');
    give(all, 3, 4);
    expect(plain.shown).toBe(3);
  });

  it('count skipped lines of a template that became part of another', () => {
    const all = page();
    const { kernel } = all;
    kernel.add('step 1', 'step 2', 'step 3', 'step 4', 'lap 1');
    const lap = kernel.like('lap 1');
    const { message, buffer } = kernel.rows(0, 5, {
      live: true,
      skips: [{ first: 1, end: 4, cells: [[1, 3, 1, 4]], wall: [1000, 1001], others: 0, groups: [[1, '', 1, 'lap 9', 3, '0', 1, lap]] }]
    });
    all.transport.receive(message, buffer);
    all.scheduler.run(5);
    expect(groupsOf(all.query)).toMatchObject([{ text: 'step 1', count: 1 }, { text: 'lap <#>', count: 4, held: 1 }]);
    kernel.merge(lap, kernel.like('step 1'));
    all.transport.receive(kernel.telling(lap));
    all.scheduler.run(5);
    expect(groupsOf(all.query)).toMatchObject([{ text: 'step <#>', count: 5, held: 2 }]);
    // Lines of it that come are counted in the skip no more.
    const more = kernel.rows(1, 3);
    all.transport.receive(more.message, more.buffer);
    all.scheduler.run(50);
    expect(groupsOf(all.query)).toMatchObject([{ text: 'step <#>', count: 5, held: 4 }]);
  });

  it('of skipped lines of which only a text is told are one for each text, until the lines come', () => {
    const all = page();
    const { kernel } = all;
    kernel.add('odd', 'lap 1', 'lap 2', 'disk 7 ERROR: full', 'disk 8 ERROR: full', 'lap 3');
    kernel.lines[0]!.template = 0;
    const groups: SkipGroupTuple[] = [
      [1, '', 1, 'lap 1', 3, '0-1', 1, 0], [1, '', 1, 'disk 7 ERROR: full', 2, '3', 1, 0], [1, 'job 1', 1, 'lap 1', 1, '9', 0, 0]
    ];
    const skip = { first: 1, end: 6, cells: [[1, 6, 1, 6]] as [number, number, number, number][], wall: [1000, 1001] as [number, number], others: 0, groups };
    const { message, buffer } = kernel.rows(0, 6, { live: true, skips: [skip] });
    all.transport.receive(message, buffer);
    all.scheduler.run(5);
    expect(groupsOf(all.query)).toMatchObject([
      { text: 'odd', count: 1, others: true },
      { text: 'lap 1', count: 3, held: 0, ranks: [0, 1], differs: true, others: false, shape: null, level: 0, job: '' },
      { text: 'disk 7 ERROR: full', count: 2, ranks: [3], others: false, level: levelOf('disk 7 ERROR: full') },
      { text: 'lap 1', count: 1, differs: false, others: false, job: 'job 1' }
    ]);
    for (const [at, { id }] of groupsOf(all.query).entries()) {
      expect(all.query.indexOf(id)).toBe(at);
      expect(all.query.values(id, true)).toBeNull();
    }
    all.query.setGrouped(false);
    expect(itemsOf(all.query)[1]).toMatchObject({ kind: 'skip', groups: [{ text: 'lap 1', count: 3 }, { count: 2 }, { count: 1 }] });
    all.query.setGrouped(true);
    const come = kernel.rows(1, 4);
    all.transport.receive(come.message, come.buffer);
    all.scheduler.run(50);
    const counted = new Map(groupsOf(all.query).map(({ text, job, count }) => [`${text} ${job}`, count]));
    expect(counted).toEqual(new Map([
      ['odd ', 1], ['lap <#> ', 2], ['disk 7 ERROR: full ', 1], ['lap 1 ', 1], ['lap 1 job 1', 1]
    ]));
    const greetings = all.transport.ofType('hello').length;
    all.scheduler.run(60_000);
    expect(all.transport.ofType('hello').length).toBe(greetings);
  });

  it('are taken apart when a template stands for itself again', () => {
    const all = page();
    const { kernel } = all;
    kernel.add('step 1', 'lap 2', 'lap 3');
    const lap = kernel.templates.get(kernel.like('lap 2')) as TemplateTuple;
    kernel.merge(lap[0], kernel.like('step 1'));
    give(all, 0, 3);
    expect(groupsOf(all.query)).toMatchObject([{ count: 3 }]);
    kernel.templates.set(lap[0], lap);
    all.transport.receive(kernel.telling(lap[0]));
    all.scheduler.run(50);
    expect(groupsOf(all.query)).toMatchObject([{ text: 'step 1', count: 1 }, { text: 'lap <#>', count: 2 }]);
  });

  it('that only count skipped lines have the level of their template, also when it comes late', () => {
    const all = page();
    const { kernel } = all;
    kernel.sendsTemplates = false;
    kernel.add('disk is full 1', 'fine');
    const { message, buffer } = kernel.rows(0, 2, {
      live: true,
      skips: [{ first: 0, end: 1, cells: [[1, 1, 0, 1]], wall: [1000, 1001], others: 0, groups: [[1, '', 1, 'disk is full 1', 1, '0', 0, 1]] }]
    });
    all.transport.receive(message, buffer);
    all.scheduler.run(5);
    expect(groupsOf(all.query)).toMatchObject([{ level: 0 }, { level: 0 }]);
    kernel.templates.set(1, [1, 1, ['disk is full ', ''], '#', 40]);
    all.transport.receive(kernel.telling(1));
    all.scheduler.run(20);
    expect(groupsOf(all.query)).toMatchObject([{ level: 40 }, { level: 0 }]);
    expect(all.query.errors).toBe(1);
  });

  it('know how many lines are held where these leave as templates become one', () => {
    const all = page(null, { lines: 2000, bytes: 1 << 30 });
    const { kernel } = all;
    const lap = kernel.like('lap 0');
    kernel.like('step 0');
    for (let first = 0; first < 6000; first += 500) {
      kernel.add(...Array.from({ length: 500 }, (_, at) => `${first < 4000 ? 'lap' : 'step'} ${first + at}`));
      if (first === 5500) {
        kernel.merge(lap, kernel.like('step 0'));
      }
      give(all, first, first + 500);
    }
    expect(groupsOf(all.query)).toMatchObject([{ text: 'step <#>', count: 6000, held: all.session.store.held }]);
  });
});
