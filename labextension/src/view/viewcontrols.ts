/** The controls that only change what is seen: they work in the browser alone. */
import type { IQuery, ISession } from '../core/api';
import { foldRanks, parseRanks } from '../core/ranks';
import { button, element, press, select } from './dom';
import { count } from './format';
import type { TimeMode } from './rows';
import { toText } from './sanitize';

const MOST_CELLS = 200;

/** What the controls ask of the view. */
export interface ViewActions {
  toggleGrouped(): void;
  toggleFollow(): void;
  toggleWrap(): void;
  cycleTime(): void;
  nextError(direction: 1 | -1): void;
  report(text: string, error: boolean): void;
}

/** What the controls show that the query does not know. */
export interface ViewState {
  following: boolean;
  wrap: boolean;
  time: TimeMode;
}

export class ViewControls {
  /** Which lines: grouping, cell, ranks, streams, hosts. */
  readonly which: HTMLElement;
  /** Ways to look: errors, follow, wrap, time. */
  readonly how: HTMLElement;
  private readonly grouped: HTMLButtonElement;
  private readonly ranks: HTMLInputElement;
  private readonly targets: HTMLSelectElement;
  private readonly hosts: HTMLSelectElement;
  private readonly cell: HTMLSelectElement | null;
  private readonly errors = element('span', { class: 'lm-count lm-errors' });
  private readonly errorSteps: HTMLButtonElement[];
  private readonly follow: HTMLButtonElement;
  private readonly wrap: HTMLButtonElement;
  private readonly time: HTMLButtonElement;
  private knownSources = -1;
  private knownCell = -1;

  constructor(
    private readonly session: ISession,
    private readonly query: IQuery,
    actions: ViewActions,
    wholeMesh: boolean
  ) {
    this.grouped = button('Grouped', 'group', () => actions.toggleGrouped(), {
      title: 'Grouped: lines that look alike as one; off: every line'
    });
    this.ranks = element('input', {
      class: 'lm-input',
      placeholder: 'ranks 0-6,8',
      'aria-label': 'Ranks to show, such as 0-6,8; empty: all',
      title: 'Ranks to show, such as 0-6,8; empty: all',
      spellcheck: 'false',
      autocomplete: 'off'
    });
    this.ranks.addEventListener('input', () => this.ranksTyped(actions));
    this.targets = select('Streams', [['3', 'all streams'], ['1', 'stdout'], ['2', 'stderr']], value =>
      query.setFilter({ targets: Number(value) })
    );
    this.hosts = select('Host', [['', 'all hosts']], value => query.setFilter({ hosts: value ? new Set([value]) : null }));
    this.cell = wholeMesh
      ? select('Cell', [['', 'all cells']], value => query.setFilter({ cell: value ? Number(value) : null }))
      : null;
    this.which = element(
      'span',
      { class: 'lm-tools', role: 'group', 'aria-label': 'Lines shown' },
      this.grouped,
      this.cell,
      this.ranks,
      this.targets,
      this.hosts
    );
    this.errorSteps = [
      button('Previous error', 'up', () => actions.nextError(-1)),
      button('Next error', 'down', () => actions.nextError(1))
    ];
    this.follow = button('Follow the end', 'end', () => actions.toggleFollow());
    this.wrap = button('Wrap long lines', 'wrap', () => actions.toggleWrap());
    this.time = button('Time', 'time', () => actions.cycleTime());
    this.how = element(
      'span',
      { class: 'lm-tools', role: 'group', 'aria-label': 'View' },
      this.errors,
      ...this.errorSteps,
      this.follow,
      this.wrap,
      this.time
    );
  }

  /** Shows what is true now. Cheap: it may be called each frame. */
  show(state: ViewState): void {
    const filter = this.query.filter;
    press(this.grouped, this.query.grouped);
    press(this.follow, state.following);
    press(this.wrap, state.wrap);
    press(this.time, state.time !== 'off');
    const time = `Time: ${state.time}`;
    if (this.time.title !== time) {
      this.time.title = time;
      this.time.setAttribute('aria-label', time);
    }
    this.targets.value = String(filter.targets);
    const { errors } = this.query;
    const text = errors ? `${count(errors)} err` : '';
    if (this.errors.textContent !== text) {
      this.errors.textContent = text;
      this.errors.title = `${count(errors)} lines with errors`;
    }
    for (const step of this.errorSteps) {
      step.disabled = !errors;
    }
    if (this.session.sources.size !== this.knownSources) {
      this.knownSources = this.session.sources.size;
      this.showHosts();
    }
    const newest = this.session.state?.cell ?? 0;
    if (this.cell && newest !== this.knownCell) {
      this.knownCell = newest;
      this.showCells(this.cell, newest);
    }
  }

  /** The filter's ranks were changed elsewhere. */
  showRanks(): void {
    this.ranks.value = this.query.filter.ranks ? foldRanks(this.query.filter.ranks) : '';
    this.ranks.classList.remove('lm-invalid');
  }

  /** The filter was cleared: all controls show that. */
  cleared(): void {
    this.showRanks();
    this.hosts.value = '';
    if (this.cell) {
      this.cell.value = '';
    }
  }

  private ranksTyped(actions: ViewActions): void {
    const ranks = parseRanks(this.ranks.value);
    this.ranks.classList.toggle('lm-invalid', ranks === null);
    this.ranks.setAttribute('aria-invalid', String(ranks === null));
    if (ranks) {
      this.query.setFilter({ ranks: ranks.length ? new Set(ranks) : null });
    }
    actions.report(ranks ? '' : 'ranks are written like 0-6,8', ranks === null);
  }

  private showHosts(): void {
    const hosts = [...new Set([...this.session.sources.values()].map(source => source.host))].sort();
    const chosen = this.hosts.value;
    const choices = hosts.map(host => element('option', { value: host }, toText(host).slice(0, 60)));
    this.hosts.replaceChildren(element('option', { value: '' }, 'all hosts'), ...choices);
    this.hosts.value = chosen;
    this.hosts.hidden = hosts.length < 2;
  }

  private showCells(cell: HTMLSelectElement, newest: number): void {
    const chosen = cell.value;
    const choices: HTMLElement[] = [];
    for (let number = newest; number > 0 && choices.length < MOST_CELLS; number -= 1) {
      choices.push(element('option', { value: number }, `cell ${number}`));
    }
    cell.replaceChildren(element('option', { value: '' }, 'all cells'), ...choices);
    cell.value = chosen;
  }
}
