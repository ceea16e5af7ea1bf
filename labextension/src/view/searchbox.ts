/** The search: find (next, previous, a count) or filter, as text or regular expression. */
import type { Found, IQuery } from '../core/api';
import { searchExpression } from './ansi';
import { button, element, press } from './dom';
import { count } from './format';

const TYPING_MS = 120;

export interface SearchActions {
  /** Matches to mark; null: none. */
  mark(expression: RegExp | null): void;
  goTo(id: string): void;
  /** Index of the current row. */
  current(): number;
  leave(): void;
}

export class SearchBox {
  readonly node: HTMLElement;
  private readonly input: HTMLInputElement;
  private readonly counted = element('span', { class: 'lm-count', role: 'status' });
  private readonly filtering: HTMLButtonElement;
  private readonly regex: HTMLButtonElement;
  private readonly matchCase: HTMLButtonElement;
  private readonly steps: HTMLButtonElement[];
  private mode: 'find' | 'filter' = 'find';
  private found: Found = { ids: [], done: true, problem: '' };
  private at = -1;
  private cancel: (() => void) | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly undo: () => void;

  constructor(
    private readonly query: IQuery,
    private readonly actions: SearchActions
  ) {
    this.input = element('input', {
      type: 'search',
      class: 'lm-search-text',
      placeholder: 'Find',
      'aria-label': 'Search text',
      spellcheck: 'false',
      autocomplete: 'off'
    });
    this.input.addEventListener('input', () => this.soon());
    this.input.addEventListener('keydown', event => this.keyed(event));
    this.regex = this.toggle('.*', 'Regular expression');
    this.matchCase = this.toggle('Aa', 'Match case');
    this.filtering = button('Filter: show only lines that match', 'filter', () => this.setMode(this.mode === 'find' ? 'filter' : 'find'));
    press(this.filtering, false);
    this.steps = [
      button('Previous match', 'up', () => this.step(-1)),
      button('Next match', 'down', () => this.step(1))
    ];
    this.node = element(
      'span',
      { class: 'lm-tools lm-search', role: 'search' },
      element('span', { class: 'lm-field' }, this.input, this.counted, this.matchCase, this.regex, this.filtering),
      ...this.steps
    );
    this.undo = query.on('changed', () => {
      if (this.mode === 'filter') {
        this.show();
      }
    });
    this.show();
  }

  dispose(): void {
    this.undo();
    this.cancel?.();
    clearTimeout(this.timer);
  }

  focus(): void {
    this.input.focus();
    this.input.select();
  }

  /** The filter was cleared elsewhere. */
  clear(): void {
    this.input.value = '';
    this.search();
  }

  setMode(mode: 'find' | 'filter'): void {
    this.mode = mode;
    press(this.filtering, mode === 'filter');
    this.input.placeholder = mode === 'filter' ? 'Filter' : 'Find';
    if (mode === 'find') {
      this.query.setFilter({ text: '' });
    }
    this.search();
  }

  /** Shows only lines with this text, as it stands there. */
  filter(text: string): void {
    this.input.value = text;
    press(this.regex, false);
    this.setMode('filter');
  }

  /** Goes to the next or previous match. */
  step(direction: 1 | -1): void {
    const ids = this.found.ids;
    if (!ids.length) {
      return;
    }
    this.at = this.at < 0 ? this.nearest(direction) : (this.at + direction + ids.length) % ids.length;
    const id = ids[this.at];
    if (id !== undefined) {
      this.actions.goTo(id);
    }
    this.show();
  }

  private toggle(text: string, label: string): HTMLButtonElement {
    const node = button(label, null, () => {
      press(node, node.getAttribute('aria-pressed') !== 'true');
      this.search();
    }, { text });
    press(node, false);
    return node;
  }

  private get options(): { regex: boolean; matchCase: boolean } {
    return {
      regex: this.regex.getAttribute('aria-pressed') === 'true',
      matchCase: this.matchCase.getAttribute('aria-pressed') === 'true'
    };
  }

  private soon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.search(), TYPING_MS);
  }

  private search(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.cancel?.();
    this.cancel = null;
    this.found = { ids: [], done: true, problem: '' };
    this.at = -1;
    const text = this.input.value;
    const { regex, matchCase } = this.options;
    this.actions.mark(searchExpression(text, regex, matchCase));
    if (this.mode === 'filter') {
      this.query.setFilter({ text, regex, matchCase });
    } else if (text) {
      let first = true;
      this.cancel = this.query.find(text, { regex, matchCase }, found => {
        const id = this.found.ids[this.at];
        this.found = found;
        // Found backwards from the end: earlier ones move the place of the current one.
        this.at = id === undefined ? -1 : found.ids.indexOf(id);
        if (first && found.ids.length && document.activeElement === this.input) {
          first = false;
          this.step(-1);
        }
        this.show();
      });
    }
    this.show();
  }

  /** Index of the match next to the current row. */
  private nearest(direction: 1 | -1): number {
    const current = this.actions.current();
    const ids = this.found.ids;
    let [low, high] = [0, ids.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const before = this.query.indexOf(ids[middle] ?? '') < (direction > 0 ? current + 1 : current);
      if (before) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return direction > 0 ? low % ids.length : (low - 1 + ids.length) % ids.length;
  }

  private show(): void {
    const filter = this.mode === 'filter';
    const problem = filter ? this.query.problem : this.found.problem;
    this.input.classList.toggle('lm-invalid', problem !== '');
    this.input.setAttribute('aria-invalid', String(problem !== ''));
    const text = this.input.value;
    const more = this.found.done ? '' : '+';
    this.counted.textContent = problem
      ? problem
      : !text
        ? ''
        : filter
          ? `${count(this.query.shown)}${this.query.working ? '+' : ''}`
          : `${this.at < 0 ? '' : `${count(this.at + 1)}/`}${count(this.found.ids.length)}${more}`;
    this.counted.title = problem;
    for (const step of this.steps) {
      step.disabled = !this.found.ids.length;
      step.hidden = filter || !text;
    }
  }

  private keyed(event: KeyboardEvent): void {
    if (event.key === 'Enter') {
      if (this.timer !== undefined) {
        this.search();
      } else if (this.mode === 'find') {
        this.step(event.shiftKey ? -1 : 1);
      }
    } else if (event.key === 'Escape') {
      if (this.input.value) {
        this.clear();
      } else {
        this.actions.leave();
      }
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
