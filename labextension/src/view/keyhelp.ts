/** The dialog that lists the keys. */
import { button, element } from './dom';

const KEYS = [
  ['↑ ↓', 'next or previous row'],
  ['Shift ↑ ↓', 'choose rows'],
  ['Page up, page down, Home, End', 'further'],
  ['Enter, →, ←', 'unfold, fold'],
  ['c', 'copy the row, or the chosen rows'],
  ['/ or f', 'search; in it Enter and Shift Enter: next, previous'],
  ['n, N', 'next, previous match'],
  ['e, E', 'next, previous error'],
  ['g', 'grouped, or every line'],
  ['w', 'wrap long lines'],
  ['t', 'time: absolute, relative, off'],
  ['l', 'follow the end'],
  ['x', 'clear the filters'],
  ['?', 'this list'],
  ['Escape', 'close, leave, take back']
] as const;

export class KeyHelp {
  readonly node: HTMLDialogElement;

  constructor() {
    const list = element('dl', {});
    for (const [key, text] of KEYS) {
      list.append(element('dt', {}, key), element('dd', {}, text));
    }
    this.node = element('dialog', { class: 'lm-dialog', 'aria-label': 'Keys' });
    this.node.append(
      element('h2', {}, 'Keys'),
      list,
      button('Close', null, () => this.node.close(), { text: 'Close' })
    );
    this.node.addEventListener('keydown', event => {
      event.stopPropagation();
      if (event.key === '?') {
        this.node.close();
      }
    });
  }

  open(): void {
    if (!this.node.open) {
      this.node.showModal();
    }
  }
}
