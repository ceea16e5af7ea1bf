// @vitest-environment jsdom
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { MeshControls } from '../../src/view/meshcontrols';
import { FakeQuery, FakeSession, settled } from './fakes';

let session: FakeSession;
let query: FakeQuery;
let controls: MeshControls;
const report = vi.fn();

function get(selector: string): HTMLElement {
  const node = controls.node.querySelector<HTMLElement>(selector);
  if (!node) {
    throw new Error(selector);
  }
  return node;
}

function level(): HTMLSelectElement {
  return get('select') as HTMLSelectElement;
}

function checkbox(): HTMLInputElement {
  return get('input[type=checkbox]') as HTMLInputElement;
}

function seconds(): HTMLInputElement {
  return get('input[type=number]') as HTMLInputElement;
}

function choose(value: string): void {
  const select = level();
  select.value = value;
  select.dispatchEvent(new Event('change'));
}

function note(): string {
  return get('.lm-pending-note').textContent;
}

function button(text: string): HTMLButtonElement {
  const found = [...controls.node.querySelectorAll('button')].find(
    node => node.textContent === text || node.getAttribute('aria-label') === text
  );
  if (!found) {
    throw new Error(text);
  }
  return found;
}

beforeEach(() => {
  vi.useFakeTimers();
  session = new FakeSession();
  session.setState({});
  query = new FakeQuery(session);
  controls = new MeshControls(session, query, report);
});

afterEach(() => {
  controls.dispose();
  report.mockReset();
  vi.useRealTimers();
});

it('the level filters this view at once and asks the mesh', () => {
  choose('30');
  expect(query.filter.minLevel).toBe(30);
  expect(session.asked.map(asked => asked.request)).toEqual([{ type: 'set_mode', level: 30 }]);
  expect(get('select').classList.contains('lm-pending')).toBe(true);
});

it('a window groups this view at once and asks the mesh', () => {
  const window = checkbox();
  seconds().value = '5';
  window.checked = true;
  window.dispatchEvent(new Event('change'));
  expect(query.grouped).toBe(true);
  window.checked = false;
  window.dispatchEvent(new Event('change'));
  expect(query.grouped).toBe(false);
  expect(session.asked.map(asked => asked.request)).toEqual([
    { type: 'set_mode', window: 5 },
    { type: 'set_mode', window: null }
  ]);
});

it('shows the mode that the mesh has, whoever changed it; grouping follows, the filter does not', () => {
  expect(level().value).toBe('20');
  expect(query.filter.minLevel).toBe(0);
  session.setState({ level: 40, window: 7, stream: true });
  expect(level().value).toBe('40');
  expect(query.filter.minLevel).toBe(0);
  expect(query.grouped).toBe(true);
  expect(seconds().value).toBe('7');
  session.setState({ level: 25, window: null });
  expect(level().selectedOptions[0]?.textContent).toBe('Level 25');
  expect(query.grouped).toBe(false);
});

it('under an earlier cell, what a later one sets is shown but changes no line', () => {
  query.filter = { ...query.filter, cell: 3 };
  session.setState({ window: null }, { cell: 3 });
  session.setState({ level: 40, window: 7 }, { cell: 4 });
  expect([level().value, seconds().value, query.grouped]).toEqual(['40', '7', false]);
});

it('a cell that has just begun is grouped as the mesh is', () => {
  query.filter = { ...query.filter, cell: 5 };
  session.setState({ window: 7 }, { cell: 4 });
  expect(query.grouped).toBe(true);
});

it('what was chosen in the view alone stays when the mesh tells the same mode again', () => {
  query.setGrouped(true);
  query.setFilter({ minLevel: 30 });
  session.setState({});
  expect([query.grouped, query.filter.minLevel]).toEqual([true, 30]);
});

it('streaming ends together with its window', () => {
  session.setState({ window: 3 });
  button('Stream').click();
  expect(session.asked[0]?.request).toEqual({ type: 'set_mode', stream: false, window: null });
});

it('says that a request waits for the cell when the answer does not come', async () => {
  session.setState({}, { busy: true });
  choose('30');
  expect(note()).toBe('');
  vi.advanceTimersByTime(300);
  expect(note()).toBe('applies when the cell ends');
  session.asked[0]?.answer('');
  await settled();
  expect(note()).toBe('');
});

it('says so at once where the kernel cannot hear while a cell runs', () => {
  session.setState({}, { busy: true, atOnce: false });
  choose('30');
  expect(note()).toBe('applies when the cell ends');
});

it('a refused request goes back to the true mode, and its error is shown', async () => {
  choose('30');
  session.asked[0]?.refuse(new Error('no such level'));
  await settled();
  expect(report).toHaveBeenCalledWith('no such level', true);
  expect(level().value).toBe('20');
  expect(controls.node.getAttribute('aria-busy')).toBe('false');
});

it('without a connection the level still filters, and nothing is asked', () => {
  session.connected = false;
  session.setState({});
  choose('40');
  expect(query.filter.minLevel).toBe(40);
  expect(session.asked).toEqual([]);
  expect(button('Stream').disabled).toBe(true);
});

it('flush asks for a barrier and tells its result', async () => {
  controls.flush();
  expect(session.asked[0]?.request).toEqual({ type: 'flush' });
  session.asked[0]?.answer('4/4 procs');
  await settled();
  expect(report).toHaveBeenCalledWith('4/4 procs', false);
});
