import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { sessionOf } from '../../src/core/session';
import { KernelLink } from '../../src/lab/kernel_link';
import { FakeKernel } from './fake_kernel';

let count = 0;
let id = '';
let commId = '';
let kernel: FakeKernel;

beforeEach(() => {
  vi.useFakeTimers();
  id = `link${count++}`;
  commId = `logmesh-${id}`;
  kernel = new FakeKernel();
});

afterEach(() => {
  vi.useRealTimers();
});

/** Lets what was asked be answered; less than core takes to repeat a hello. */
async function answered(): Promise<void> {
  await vi.advanceTimersByTimeAsync(1000);
}

async function linked(): Promise<KernelLink> {
  const link = new KernelLink(kernel.asKernel());
  await answered();
  return link;
}

test('a comm that the kernel opens connects its session, through the subshell of the comm', async () => {
  const link = await linked();
  kernel.openComm(commId);
  await answered();
  expect(sessionOf(id).connected).toBe(true);
  expect(link.newest).toBe(id);
  expect(kernel.requests()).toEqual([{ type: 'hello', subshell: 'subshell-of-comm' }]);
});

test('nothing is sent before the subshell is there', async () => {
  await linked();
  let start: () => void = () => undefined;
  const comm = kernel.createComm('', commId);
  comm.subshellId = null;
  comm.subshellStarted = new Promise(resolve => (start = resolve));
  kernel.say(commId, { logmesh: 1 });
  kernel.comms.delete(commId);
  kernel.createComm = () => {
    kernel.comms.set(commId, comm);
    return comm;
  };
  kernel.say(commId, { logmesh: 1 });
  await answered();
  expect(kernel.requests()).toEqual([]);
  comm.subshellId = 'late';
  start();
  await answered();
  expect(kernel.requests()[0]).toEqual({ type: 'hello', subshell: 'late' });
});

test('a page that comes later finds the session in the list of comms', async () => {
  kernel.listed = [commId];
  const link = await linked();
  expect(sessionOf(id).connected).toBe(true);
  expect(link.newest).toBe(id);
});

test('a kernel with subshells is asked on its control channel, where no cell can meet the answer', async () => {
  await linked();
  kernel.connect('connecting');
  kernel.connect('connected');
  await answered();
  expect(kernel.askedOn()).toEqual(['control', 'control']);
});

test('a kernel without subshells, or whose control channel is silent, is asked on its shell', async () => {
  kernel.listed = [commId];
  kernel.features = [];
  await linked();
  expect(kernel.askedOn()).toEqual(['shell']);
  expect(sessionOf(id).connected).toBe(true);
  const silent = (kernel = new FakeKernel());
  silent.listed = [`${commId}-2`];
  silent.deaf = true;
  await linked();
  expect(silent.askedOn()).toEqual(['control']);
  await vi.advanceTimersByTimeAsync(3000);
  expect(silent.askedOn()).toEqual(['control', 'shell']);
  expect(silent.comms.size).toBe(1);
});

test('nothing is asked before the kernel answers, and then at once', async () => {
  let answer: (info: object) => void = () => undefined;
  vi.spyOn(kernel, 'info', 'get').mockReturnValue(new Promise(resolve => (answer = resolve)));
  kernel.listed = [commId];
  const link = await linked();
  expect(kernel.askedOn()).toEqual([]);
  answer({ supported_features: kernel.features });
  await answered();
  expect(link.newest).toBe(id);
});

test('while a cell runs, an output leads to the session and the control channel to a subshell', async () => {
  kernel.blocked = true;
  kernel.listed = [commId];
  const link = await linked();
  expect(sessionOf(id).connected).toBe(false);
  link.expect(id);
  await answered();
  expect(sessionOf(id).connected).toBe(true);
  expect(kernel.requests()).toEqual([{ type: 'hello', subshell: 'subshell-of-page' }]);
  link.dispose();
  expect(kernel.sent[kernel.sent.length - 1]).toMatchObject({
    type: 'delete_subshell_request',
    channel: 'control',
    content: { subshell_id: 'subshell-of-page' }
  });
});

test('an output of a session that the kernel does not have connects nothing', async () => {
  const link = await linked();
  expect(kernel.askedOn()).toEqual(['control']);
  link.expect(id);
  link.expect(id);
  await answered();
  expect(sessionOf(id).connected).toBe(false);
  expect(kernel.comms.size).toBe(0);
  expect(kernel.askedOn()).toEqual(['control', 'control']);
});

test('a message of an unknown comm connects, once', async () => {
  const link = await linked();
  const create = vi.spyOn(kernel, 'createComm');
  kernel.say(commId, { logmesh: 1, session: id });
  kernel.say(commId, { logmesh: 1, session: id });
  kernel.listed = [commId];
  link.expect(id);
  kernel.connect('connecting');
  kernel.connect('connected');
  await answered();
  expect(sessionOf(id).connected).toBe(true);
  expect(create).toHaveBeenCalledTimes(1);
});

test("others' comm messages connect nothing", async () => {
  const link = await linked();
  kernel.say('a-widget', { logmesh: 1 });
  kernel.say(commId, { method: 'update' });
  await answered();
  expect(kernel.comms.size).toBe(0);
  expect(link.newest).toBeNull();
});

test('a kernel without subshells is asked on its main shell', async () => {
  kernel.features = [];
  await linked();
  kernel.openComm(commId);
  await answered();
  expect(kernel.requests()).toEqual([{ type: 'hello', subshell: null }]);
});

test.each(['restarting', 'starting', 'dead'] as const)('a kernel that is %s has forgotten its session', async status => {
  const link = await linked();
  const comm = kernel.openComm(commId);
  const changed = vi.fn();
  link.changed.connect(changed);
  kernel.statusChanged.emit(status);
  expect(sessionOf(id).connected).toBe(false);
  expect(link.newest).toBeNull();
  expect(comm.isDisposed).toBe(true);
  expect(changed).toHaveBeenCalled();
});

test('a restart that nothing told of is noticed by what the new kernel says', async () => {
  const link = await linked();
  kernel.openComm(commId);
  kernel.say(commId, { logmesh: 1 });
  expect(sessionOf(id).connected).toBe(true);
  kernel.life = 'second';
  kernel.say('a-widget', {});
  expect(sessionOf(id).connected).toBe(false);
  expect(link.newest).toBeNull();
});

test.each(['stream', 'status', 'error'])('a "%s" that the server writes is no sign of another kernel', async type => {
  const link = await linked();
  const comm = kernel.openComm(commId);
  kernel.say(commId, { logmesh: 1 });
  kernel.iopubMessage.emit({ header: { msg_type: type, session: 'the server' }, content: {} });
  expect(sessionOf(id).connected).toBe(true);
  kernel.say(commId, { logmesh: 1 });
  expect(comm.isDisposed).toBe(false);
  expect(link.newest).toBe(id);
});

test('a connection that was lost and comes back says hello again', async () => {
  await linked();
  kernel.openComm(commId);
  await answered();
  kernel.connect('connecting');
  expect(sessionOf(id).connected).toBe(false);
  kernel.connect('connected');
  await answered();
  expect(sessionOf(id).connected).toBe(true);
  expect(kernel.requests().map(({ type }) => type)).toEqual(['hello', 'hello']);
});

test('a comm that the kernel has closed is not taken for open when the connection comes back', async () => {
  await linked();
  const comm = kernel.openComm(commId);
  comm.onClose({});
  comm.dispose();
  kernel.connect('connecting');
  kernel.connect('connected');
  await answered();
  expect(sessionOf(id).connected).toBe(false);
});

test('the end of the comm or of the connection closes the session', async () => {
  await linked();
  const comm = kernel.openComm(commId);
  comm.onClose({});
  expect(sessionOf(id).connected).toBe(false);
  kernel.openComm(`${commId}-2`);
  expect(sessionOf(`${id}-2`).connected).toBe(true);
  kernel.disposed.emit();
  expect(sessionOf(`${id}-2`).connected).toBe(false);
});

test('of two connections to a kernel, the one without comms makes none', async () => {
  kernel.handleComms = false;
  kernel.listed = [commId];
  const link = await linked();
  link.expect(id);
  await answered();
  expect(kernel.comms.size).toBe(0);
});
