import type { ISessionContext } from '@jupyterlab/apputils';
import { Signal } from '@lumino/signaling';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { sessionOf } from '../../src/core/session';
import { SessionLinks } from '../../src/lab/session_links';
import { FakeKernel } from './fake_kernel';

let count = 0;
let id = '';

beforeEach(() => {
  vi.useFakeTimers();
  id = `links${count++}`;
});

afterEach(() => {
  vi.useRealTimers();
});

/** Lets what was asked be answered; less than core takes to repeat a hello. */
async function answered(): Promise<void> {
  await vi.advanceTimersByTimeAsync(1000);
}

class FakeContext {
  session: { kernel: FakeKernel } | null = null;
  readonly kernelChanged = new Signal<this, { newValue: FakeKernel }>(this);

  use(kernel: FakeKernel): void {
    this.session = { kernel };
    this.kernelChanged.emit({ newValue: kernel });
  }

  asContext(): ISessionContext {
    return this as unknown as ISessionContext;
  }
}

/** A kernel in which a cell runs that says nothing: only the control channel tells of its comms. */
function silent(): FakeKernel {
  const kernel = new FakeKernel();
  kernel.blocked = true;
  kernel.listed = [`logmesh-${id}`];
  return kernel;
}

test('an output that is there before the kernel leads to its session', async () => {
  const context = new FakeContext();
  const links = new SessionLinks();
  links.watch(context.asContext());
  links.expect(context.asContext(), id);
  context.use(silent());
  await answered();
  expect(sessionOf(id).connected).toBe(true);
  expect(links.newest(context.asContext())).toBe(id);
});

test('an output leads to its session in the kernel that its document has by then', async () => {
  const context = new FakeContext();
  const links = new SessionLinks();
  links.watch(context.asContext());
  context.use(silent());
  await answered();
  expect(sessionOf(id).connected).toBe(false);
  links.expect(context.asContext(), id);
  await answered();
  expect(sessionOf(id).connected).toBe(true);
});

test("outputs of one document ask nothing of another's kernel", async () => {
  const [context, other] = [new FakeContext(), new FakeContext()];
  const links = new SessionLinks();
  links.watch(context.asContext());
  links.watch(other.asContext());
  links.expect(context.asContext(), id);
  const kernel = silent();
  other.use(kernel);
  await answered();
  expect(kernel.sent.filter(({ channel }) => channel === 'control')).toEqual([]);
  expect(sessionOf(id).connected).toBe(false);
});
