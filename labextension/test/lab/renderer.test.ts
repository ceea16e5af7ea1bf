// @vitest-environment jsdom
import { MessageLoop } from '@lumino/messaging';
import { Panel, Widget } from '@lumino/widgets';
import { beforeEach, expect, test, vi } from 'vitest';
import type { ITransport } from '../../src/core/api';
import { sessionOf } from '../../src/core/session';
import { CELL_MIME, cellData, cellRendererFactory } from '../../src/lab/renderer';
import { Settings } from '../../src/lab/settings';

vi.hoisted(() => {
  // Lumino needs it when it is loaded; jsdom has none.
  Object.assign(globalThis, { DragEvent: MouseEvent });
});
const made = vi.hoisted(() => vi.fn());
const disposed = vi.hoisted(() => vi.fn());
vi.mock('../../src/view/logview', () => ({
  LogView: class {
    readonly node = document.createElement('div');
    readonly dispose = disposed;
    constructor(options: { cell: number | null }) {
      made(options.cell);
      this.node.textContent = `view of cell ${options.cell}`;
    }
  }
}));

let count = 0;
let id = '';

beforeEach(() => {
  id = `rendered${count++}`;
  made.mockClear();
  disposed.mockClear();
});

function connect(): void {
  const transport: ITransport = {
    send: () => undefined,
    onMessage: () => undefined,
    onClose: () => undefined,
    dispose: () => undefined
  };
  sessionOf(id).attach(transport);
}

/** An output's row, with the renderer in it. */
async function output(data: object): Promise<{ row: Panel; expected: string[]; renderer: Widget }> {
  const expected: string[] = [];
  const renderer = cellRendererFactory({
    expect: session => expected.push(session),
    openFile: () => undefined,
    settings: new Settings()
  }).createRenderer({ mimeType: CELL_MIME } as never);
  await renderer.renderModel({ data: { [CELL_MIME]: data } } as never);
  const row = new Panel();
  row.addWidget(renderer);
  Widget.attach(row, document.body);
  MessageLoop.flush();
  return { row, expected, renderer };
}

test('an output takes no space until its session connects, then shows the cell', async () => {
  const { row, expected } = await output({ session: id, comm: `logmesh-${id}`, cell: 3 });
  expect(expected).toEqual([id]);
  expect(row.isHidden).toBe(true);
  expect(made).not.toHaveBeenCalled();
  connect();
  expect(row.isHidden).toBe(false);
  expect(row.node.textContent).toBe('view of cell 3');
});

test('where the session is connected the view is there at once, and goes with the output', async () => {
  connect();
  const { row } = await output({ session: id, comm: `logmesh-${id}`, cell: 1 });
  expect(row.isHidden).toBe(false);
  row.dispose();
  expect(disposed).toHaveBeenCalledTimes(1);
});

test('the same data rendered again leaves the view as it is', async () => {
  connect();
  const data = { session: id, comm: `logmesh-${id}`, cell: 1 };
  const { renderer } = await output(data);
  await (renderer as never as { renderModel(model: object): Promise<void> }).renderModel({
    data: { [CELL_MIME]: { ...data } }
  });
  expect(made).toHaveBeenCalledTimes(1);
});

test('the whole mesh has no cell', () => {
  expect(cellData({ session: 'ab', cell: null })).toEqual({ session: 'ab', cell: null });
});

test.each([null, {}, { session: 1, cell: 1 }, { session: 'a b', cell: 1 }, { session: 'ab', cell: '1' }])(
  'what no kernel writes shows nothing: %j',
  async data => {
    expect(cellData(data)).toBeNull();
    const { row, expected } = await output(data as object);
    expect(row.isHidden).toBe(true);
    expect(expected).toEqual([]);
  }
);
