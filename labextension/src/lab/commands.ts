/** The commands of the category "Log Mesh". */
import { Notification } from '@jupyterlab/apputils';
import type { CommandRegistry } from '@lumino/commands';
import type { ReadonlyJSONObject } from '@lumino/coreutils';
import type { Request } from '../core/protocol';
import type { CurrentSession } from './current';

export const CATEGORY = 'Log Mesh';
export const TOGGLE_PANEL = 'logmesh:toggle-panel';
export const FLUSH = 'logmesh:flush';
const STREAM = 'logmesh:stream';
const WINDOW = 'logmesh:window';
const LEVEL = 'logmesh:level';

const WINDOW_SEC = 3;
const LEVELS: readonly (readonly [name: string, level: number])[] = [
  ['DEBUG', 10],
  ['INFO', 20],
  ['WARNING', 30],
  ['ERROR', 40]
];

/** What the palette lists. */
export const PALETTE: readonly { command: string; args: ReadonlyJSONObject }[] = [
  ...[TOGGLE_PANEL, FLUSH, STREAM, WINDOW].map(command => ({ command, args: {} })),
  ...LEVELS.map(([, level]) => ({ command: LEVEL, args: { level } }))
];

export interface PanelSwitch {
  readonly isShown: boolean;
  show(): void;
  hide(): void;
}

/** Those that change the mesh change it for real, and are on only where there is one. */
export function addCommands(commands: CommandRegistry, current: CurrentSession, panel: PanelSwitch): void {
  const isEnabled = (): boolean => current.session?.connected ?? false;
  const ask = async (request: Request): Promise<void> => {
    try {
      const text = await current.session?.request(request);
      if (text !== undefined && text !== '') {
        Notification.info(text, { autoClose: 3000 });
      }
    } catch (error) {
      Notification.error(error instanceof Error ? error.message : String(error), { autoClose: 5000 });
    }
  };
  const describedBy = { args: { type: 'object', properties: {} } };

  commands.addCommand(TOGGLE_PANEL, {
    label: 'Log Mesh Panel',
    caption: 'Show or hide the lines of all procs and cells',
    describedBy,
    isToggleable: true,
    isToggled: () => panel.isShown,
    execute: () => (panel.isShown ? panel.hide() : panel.show())
  });
  commands.addCommand(FLUSH, {
    label: 'Flush: Wait Until All That Was Printed Is Here',
    describedBy,
    isEnabled,
    execute: () => ask({ type: 'flush' })
  });
  commands.addCommand(STREAM, {
    label: 'Stream Lines to the Notebook',
    describedBy,
    isEnabled,
    isToggleable: true,
    isToggled: () => current.session?.mode?.stream ?? false,
    execute: () => ask({ type: 'set_mode', stream: !(current.session?.mode?.stream ?? false) })
  });
  commands.addCommand(WINDOW, {
    label: `Aggregate Lines That Are Alike (${WINDOW_SEC} s)`,
    describedBy,
    isEnabled,
    isToggleable: true,
    isToggled: () => (current.session?.mode?.window ?? null) !== null,
    execute: () =>
      ask({ type: 'set_mode', window: (current.session?.mode?.window ?? null) === null ? WINDOW_SEC : null })
  });
  commands.addCommand(LEVEL, {
    label: args => `Level of Python Logging: ${LEVELS.find(([, level]) => level === args['level'])?.[0] ?? '?'}`,
    describedBy: {
      args: {
        type: 'object',
        properties: { level: { type: 'integer', description: "One of Python's levels, 10 to 50" } },
        required: ['level']
      }
    },
    isEnabled,
    isToggleable: true,
    isToggled: args => current.session?.mode?.level === args['level'],
    execute: args => {
      const level = args['level'];
      return typeof level === 'number' ? ask({ type: 'set_mode', level }) : undefined;
    }
  });
}
