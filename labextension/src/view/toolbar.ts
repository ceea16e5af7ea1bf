/** The bar above the lines: puts the controls in order, and holds the menus of what is seldom wanted. */
import type { ViewCommand } from './commands';
import { button, element, press } from './dom';
import { Popup } from './popup';

export interface ToolbarParts {
  mesh: HTMLElement;
  which: HTMLElement;
  search: HTMLElement;
  how: HTMLElement;
  downloads: readonly HTMLElement[];
}

export class Toolbar {
  readonly node: HTMLElement;
  private readonly procs: HTMLButtonElement;
  private readonly histogram: HTMLButtonElement;
  private readonly popups: readonly Popup[];

  constructor(parts: ToolbarParts, command: (name: ViewCommand) => void) {
    const choice = (text: string, name: ViewCommand): HTMLButtonElement =>
      button(text, null, () => command(name), { text, class: 'lm-choice' });
    this.procs = button('Ranks', 'procs', () => command('toggle-procs'));
    this.histogram = choice('Lines over time', 'toggle-histogram');
    const saving = new Popup('Download', 'download', parts.downloads);
    const more = new Popup('More', 'more', [
      this.histogram,
      choice('Copy the selection, or what is shown', 'copy'),
      choice('Clear filters', 'clear-filters'),
      choice('Keys', 'show-keys')
    ]);
    this.popups = [saving, more];
    this.node = element(
      'div',
      { class: 'lm-bar', role: 'group', 'aria-label': 'Log controls' },
      parts.mesh,
      parts.which,
      element('span', { class: 'lm-tools lm-grow' }, parts.search, parts.how, this.procs, saving.node, more.node)
    );
  }

  dispose(): void {
    this.popups.forEach(popup => popup.dispose());
  }

  /** Shows which of the parts that it switches are in sight. */
  show(shown: { histogram: boolean; procs: boolean }): void {
    press(this.histogram, shown.histogram);
    press(this.procs, shown.procs);
  }
}
