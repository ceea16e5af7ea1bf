import type { ISessionContext } from '@jupyterlab/apputils';
import { Signal } from '@lumino/signaling';
import type { Widget } from '@lumino/widgets';
import { beforeEach, expect, test, vi } from 'vitest';
import { CurrentSession, type DocumentShell, type DocumentTracker } from '../../src/lab/current';
import type { SessionLinks } from '../../src/lab/session_links';

class FakeContext {
  readonly disposed = new Signal<ISessionContext, void>(this as unknown as ISessionContext);
  readonly kernelChanged = new Signal<ISessionContext, never>(this as unknown as ISessionContext);

  constructor(readonly session: string) {}
}

interface FakeDocument {
  sessionContext: FakeContext;
}

/** As JupyterLab's: silent when its current document stays the same. */
class FakeTracker {
  currentWidget: FakeDocument | null = null;
  readonly currentChanged = new Signal<this, FakeDocument | null>(this);
  readonly documents: FakeDocument[] = [];

  add(session: string): FakeDocument {
    const document = { sessionContext: new FakeContext(session) };
    this.documents.push(document);
    return document;
  }

  find(test: (document: FakeDocument) => boolean): FakeDocument | undefined {
    return this.documents.find(test);
  }

  focus(document: FakeDocument): void {
    if (this.currentWidget !== document) {
      this.currentWidget = document;
      this.currentChanged.emit(document);
    }
  }
}

class FakeShell {
  currentWidget: object | null = null;
  readonly currentChanged = new Signal<this, unknown>(this);
}

let notebooks: FakeTracker;
let consoles: FakeTracker;
let shell: FakeShell;

beforeEach(() => {
  notebooks = new FakeTracker();
  consoles = new FakeTracker();
  shell = new FakeShell();
});

function made(withSignal = true): CurrentSession {
  const links = {
    changed: new Signal<object, void>({}),
    newest: (context: FakeContext) => context.session
  };
  return new CurrentSession(
    links as unknown as SessionLinks,
    (withSignal ? shell : { currentWidget: null }) as unknown as DocumentShell,
    [notebooks, consoles] as unknown as DocumentTracker[]
  );
}

/** As the shell does it: it tells, and the tracker of the widget hears of the focus. */
function focus(widget: FakeDocument | Widget): void {
  shell.currentWidget = widget;
  for (const tracker of [notebooks, consoles]) {
    const document = tracker.find(each => each === widget);
    if (document !== undefined) {
      tracker.focus(document);
    }
  }
  shell.currentChanged.emit(undefined);
}

test('follows the focus from a notebook to a console and back', () => {
  const [notebook, console] = [notebooks.add('a'), consoles.add('b')];
  const current = made();
  const changed = vi.fn();
  current.changed.connect((_, session) => {
    changed(session?.id);
  });
  focus(notebook);
  focus(console);
  focus(notebook);
  expect(current.session?.id).toBe('a');
  expect(changed.mock.calls).toEqual([['a'], ['b'], ['a']]);
});

test('stays with the last document when something else has the focus', () => {
  const notebook = notebooks.add('a');
  const current = made();
  focus(notebook);
  focus({} as Widget);
  expect(current.session?.id).toBe('a');
});

test('a console that is closed behind a notebook does not make another console the current one', () => {
  const [notebook, console, other] = [notebooks.add('a'), consoles.add('b'), consoles.add('c')];
  const current = made();
  focus(other);
  focus(console);
  focus(notebook);
  consoles.focus(other);
  expect(current.session?.id).toBe('a');
});

test('where the shell does not tell, the trackers do', () => {
  const [notebook, console] = [notebooks.add('a'), consoles.add('b')];
  const current = made(false);
  notebooks.focus(notebook);
  consoles.focus(console);
  expect(current.session?.id).toBe('b');
});

test('a document that is gone has no session', () => {
  const notebook = notebooks.add('a');
  const current = made();
  focus(notebook);
  shell.currentWidget = null;
  notebook.sessionContext.disposed.emit();
  expect(current.session).toBeNull();
});
