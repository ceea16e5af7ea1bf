/**
 * The log view: under a cell, or for the whole mesh in a panel. It puts the parts together and owns what
 * they share: settings, commands, keys. One view has one query; many views share a session.
 */
import type { IQuery, ISession } from '../core/api';
import { Query } from '../core/query';
import { foldRanks } from '../core/ranks';
import type { Session } from '../core/session';
import { Announcer } from './announcer';
import { KEY_COMMANDS, type ViewCommand } from './commands';
import { button, element, press } from './dom';
import { Footer } from './footer';
import { HistogramView } from './histogram';
import { JumpButton } from './jump';
import { KeyHelp } from './keyhelp';
import { LogList } from './list';
import { MeshControls } from './meshcontrols';
import type { LogViewOptions, ViewSettings } from './options';
import { ProcStrip } from './procstrip';
import { Recall } from './recall';
import type { RowLook, TimeMode } from './rows';
import { copyText, downloadChoices, shownText } from './saving';
import { SearchBox } from './searchbox';
import { ensureStyles } from './styles';
import { followTheme } from './theme';
import { Toolbar } from './toolbar';
import { Unfolding } from './unfolding';
import { ViewControls } from './viewcontrols';

export type { ViewCommand } from './commands';
export type { LogViewOptions, ViewSettings } from './options';

/** Elements with this attribute keep their keys from JupyterLab's shortcuts. */
const SUPPRESS_SHORTCUTS = 'data-lm-suppress-shortcuts';
/** A cell with more rows than this shows its controls. */
const FEW_LINES = 12;
/** A cell with more lines than this shows their volume over time. */
const MANY_LINES = 200;
const TIMES: readonly TimeMode[] = ['absolute', 'relative', 'off'];

export class LogView {
  readonly node: HTMLElement;
  private readonly session: ISession;
  private readonly query: IQuery;
  private readonly wholeMesh: boolean;
  private readonly settings: ViewSettings;
  private readonly look: RowLook;
  private readonly list: LogList;
  private readonly footer: Footer;
  private readonly mesh: MeshControls;
  private readonly controls: ViewControls;
  private readonly search: SearchBox;
  private readonly histogram: HistogramView;
  private readonly procs: ProcStrip;
  private readonly downloads: ReturnType<typeof downloadChoices>;
  private readonly help = new KeyHelp();
  private readonly bar: Toolbar;
  private readonly controlsButton: HTMLButtonElement;
  private readonly jump = new JumpButton(() => {
    this.list.setFollowing(true);
    this.list.node.focus();
  });
  private readonly empty = element('div', { class: 'lm-empty', hidden: true });
  private readonly spoken = element('div', { class: 'lm-hidden', role: 'status', 'aria-live': 'polite' });
  private readonly announcer = new Announcer(text => (this.spoken.textContent = text));
  private readonly recall: Recall | null;
  private readonly undo: (() => void)[] = [];
  /** What somebody chose to show or hide; null: as it fits. */
  private readonly chosen: { bar: boolean | null; histogram: boolean | null; procs: boolean | null };
  private aligned = 0;

  private readonly commands: Readonly<Record<ViewCommand, () => void>> = {
    'toggle-grouped': () => this.query.setGrouped(!this.query.grouped),
    find: () => this.openSearch('find'),
    filter: () => this.openSearch('filter'),
    'find-next': () => this.search.step(1),
    'find-previous': () => this.search.step(-1),
    'next-error': () => this.goToError(1),
    'previous-error': () => this.goToError(-1),
    'toggle-follow': () => this.list.setFollowing(!this.list.following),
    'toggle-wrap': () => this.configure({ wrap: !this.settings.wrap }),
    'cycle-time': () => this.configure({ time: TIMES[(TIMES.indexOf(this.settings.time) + 1) % TIMES.length] ?? 'off' }),
    'clear-filters': () => this.clearFilters(),
    flush: () => this.mesh.flush(),
    'toggle-stream': () => this.mesh.toggleStream(),
    'toggle-controls': () => this.reveal('bar', this.bar.node.hidden),
    'toggle-histogram': () => this.reveal('histogram', this.histogram.node.hidden),
    'toggle-procs': () => this.reveal('procs', this.procsHidden),
    copy: () => this.copy(),
    'copy-row': () => this.copyRow(),
    'download-text': () => this.downloads.shown('text'),
    'download-jsonl': () => this.downloads.shown('jsonl'),
    'download-all-text': () => this.downloads.all('text'),
    'download-all-jsonl': () => this.downloads.all('jsonl'),
    'download-all-parquet': () => this.downloads.all('parquet'),
    'show-keys': () => this.help.open()
  };

  constructor(options: LogViewOptions) {
    const { session, cell } = options;
    ensureStyles();
    this.session = session;
    this.wholeMesh = cell === null;
    this.query = options.query ?? new Query(session as Session, { cell });
    this.settings = {
      follow: true,
      wrap: true,
      time: this.wholeMesh ? 'absolute' : 'off',
      maxHeight: '32em',
      ...options.settings
    };
    this.chosen = { bar: this.wholeMesh || null, histogram: this.wholeMesh || null, procs: this.wholeMesh || null };
    const unfolding = new Unfolding(session, this.query, {
      changed: () => this.list.restyle(),
      stay: () => this.list.setFollowing(false),
      failed: error => this.failed(error),
      showRanks: ranks => this.showRanks(ranks),
      showText: text => {
        this.reveal('bar', true);
        this.search.filter(text);
      }
    });
    this.look = {
      time: this.settings.time,
      base: 0,
      cells: this.wholeMesh,
      marked: null,
      openFile: options.openFile ?? null,
      unfolded: unfolding.unfolded,
      whole: unfolding.whole,
      ranks: new Set()
    };
    const report = (text: string, error: boolean): void => this.footer.report(text, error);
    this.footer = new Footer(session, this.query, cell, () => this.clearFilters());
    this.mesh = new MeshControls(session, this.query, report);
    this.controls = new ViewControls(
      session,
      this.query,
      {
        toggleGrouped: () => this.command('toggle-grouped'),
        toggleFollow: () => this.command('toggle-follow'),
        toggleWrap: () => this.command('toggle-wrap'),
        cycleTime: () => this.command('cycle-time'),
        nextError: direction => this.goToError(direction),
        report
      },
      this.wholeMesh
    );
    this.list = new LogList({
      query: this.query,
      look: this.look,
      actions: unfolding,
      maxHeight: options.fill ? null : this.settings.maxHeight,
      label: this.wholeMesh ? 'Log lines of the mesh' : 'Log lines of the cell',
      followed: following => this.followed(following),
      drawn: () => this.show(),
      key: event => this.keyed(event)
    });
    this.search = new SearchBox(this.query, {
      mark: expression => {
        this.look.marked = expression;
        this.list.restyle();
      },
      goTo: id => this.list.goTo(id),
      current: () => this.list.currentIndex,
      leave: () => this.list.node.focus()
    });
    this.histogram = new HistogramView(this.query, time => this.query.setFilter({ time }));
    this.procs = new ProcStrip(session, null, ranks => this.showRanks(ranks));
    this.downloads = downloadChoices(session, this.query, report);
    this.controlsButton = button('Controls', 'controls', () => this.command('toggle-controls'));
    this.bar = new Toolbar(
      {
        mesh: this.mesh.node,
        which: this.controls.which,
        search: this.search.node,
        how: this.controls.how,
        downloads: this.downloads.nodes
      },
      name => this.command(name)
    );
    this.footer.tools.append(this.controlsButton);
    this.node = element(
      'div',
      { class: `lm-root${options.fill ? ' lm-fill' : ''}`, [SUPPRESS_SHORTCUTS]: 'true', role: 'region', 'aria-label': 'Log' },
      this.bar.node,
      this.procs.node,
      this.histogram.node,
      element('div', { class: 'lm-main' }, this.list.node, this.empty, this.jump.node),
      this.footer.node,
      this.spoken,
      this.help.node
    );
    this.node.addEventListener('keydown', event => this.keyed(event));
    this.node.addEventListener('mousedown', event => this.takeFocus(event));
    // Of an ancestor it does not count for shortcuts of JupyterLab that ask for `:focus`.
    this.node.addEventListener('focusin', event => (event.target as Element).setAttribute(SUPPRESS_SHORTCUTS, 'true'));
    this.list.setWrap(this.settings.wrap);
    this.list.setFollowing(this.settings.follow);
    this.recall = this.wholeMesh ? null : new Recall(this.node, session, this.query, error => this.failed(error));
    this.undo.push(
      session.on('state', () => this.show()),
      session.on('receipt', () => this.show()),
      session.on('procs', () => this.learnRanks()),
      this.query.on('changed', () => {
        unfolding.follow();
        this.procs.mark(this.query.filter.ranks);
      }),
      followTheme(this.node, () => this.histogram.update())
    );
    this.learnRanks();
    this.show();
  }

  focus(): void {
    this.list.node.focus();
  }

  dispose(): void {
    this.undo.forEach(undo => undo());
    this.announcer.dispose();
    for (const part of [this.list, this.footer, this.mesh, this.search, this.histogram, this.procs, this.bar]) {
      part.dispose();
    }
    this.recall?.dispose();
    this.query.dispose();
    this.node.remove();
  }

  /** Does what a command, a key or a button asks for. */
  command(name: ViewCommand): void {
    this.commands[name]();
  }

  /** Changes settings; a height holds for views that are made from then on. */
  configure({ wrap, time, follow }: Partial<ViewSettings>): void {
    if (wrap !== undefined && wrap !== this.settings.wrap) {
      this.settings.wrap = wrap;
      this.list.setWrap(wrap);
    }
    if (time !== undefined && time !== this.settings.time) {
      this.settings.time = time;
      this.look.time = time;
      this.list.restyle();
    }
    if (follow !== undefined && follow !== this.settings.follow) {
      this.settings.follow = follow;
      this.list.setFollowing(follow);
    }
  }

  private openSearch(mode: 'find' | 'filter'): void {
    this.reveal('bar', true);
    this.search.setMode(mode);
    this.search.focus();
  }

  /** Shows what is true now, of all but the rows. */
  private show(): void {
    const { shown, hidden, length } = this.query;
    const held = shown + hidden;
    const { total } = this;
    // A traceback of many lines is one row, and calm; groups are few because somebody asked for them.
    const few = total <= FEW_LINES || (!this.query.grouped && length <= FEW_LINES);
    const [bar, histogram] = [this.bar.node.hidden, this.histogram.node.hidden];
    this.bar.node.hidden = !(this.chosen.bar ?? (!few || hidden > 0));
    this.histogram.node.hidden = !(this.chosen.histogram ?? held > MANY_LINES);
    this.procs.setShown(!this.procsHidden);
    if (bar !== this.bar.node.hidden || histogram !== this.histogram.node.hidden) {
      this.node.classList.toggle('lm-barred', !this.bar.node.hidden);
      press(this.controlsButton, !this.bar.node.hidden);
      this.histogram.update();
    }
    this.bar.show({ histogram: !this.histogram.node.hidden, procs: !this.procsHidden });
    this.controlsButton.hidden = this.wholeMesh;
    this.node.classList.toggle('lm-few', few);
    this.setBase();
    this.alignRanks();
    this.controls.show({ following: this.list.following, wrap: this.settings.wrap, time: this.settings.time });
    this.footer.show();
    this.jump.show(this.list.following || this.list.atEnd, total);
    this.empty.hidden = length > 0 || (!this.wholeMesh && !hidden);
    this.empty.textContent = hidden ? 'no line passes the filters' : 'no lines yet';
    this.recall?.update();
    this.announcer.update(total, this.query.errors);
  }

  /** How many lines there are, also where this page holds them no more. */
  private get total(): number {
    const { shown, hidden, notHeld } = this.query;
    return shown + hidden + notHeld;
  }

  private get procsHidden(): boolean {
    return !this.chosen.procs;
  }

  /** Relative times count from the earliest line seen. */
  private setBase(): void {
    if (this.look.base || !this.query.length) {
      return;
    }
    const first = this.query.item(0);
    this.look.base =
      first.kind === 'skip' ? first.wall[0] : first.kind === 'group' || first.kind === 'window' ? first.firstWall : first.wall;
    if (this.look.base && this.look.time === 'relative') {
      this.list.restyle();
    }
  }

  /** Gives the ranks' column room for the longest single rank, so that texts begin below each other. */
  private alignRanks(): void {
    if (this.session.sources.size === this.aligned) {
      return;
    }
    this.aligned = this.session.sources.size;
    let most = 0;
    for (const source of this.session.sources.values()) {
      most = Math.max(most, source.rank);
    }
    this.list.node.style.setProperty('--lm-who', `${String(most).length + 2}ch`);
  }

  /** Rows name ranks shorter where they know which there are. */
  private learnRanks(): void {
    const ranks = new Set(this.session.procs.filter(({ job }) => job === '').map(({ rank }) => rank));
    if (foldRanks(ranks) !== foldRanks(this.look.ranks)) {
      this.look.ranks = ranks;
      this.list.restyle();
    }
  }

  private showRanks(ranks: ReadonlySet<number> | null): void {
    this.query.setFilter({ ranks });
    this.controls.showRanks();
  }

  private reveal(part: 'bar' | 'histogram' | 'procs', shown: boolean): void {
    this.chosen[part] = shown;
    this.show();
  }

  private followed(following: boolean): void {
    this.jump.followed(following, this.total);
    this.show();
  }

  private failed(error: unknown): void {
    this.footer.report(error instanceof Error ? error.message : String(error), true);
  }

  private goToError(direction: 1 | -1): void {
    const index = this.query.nextError(this.list.currentIndex, direction);
    if (index < 0) {
      this.footer.report(direction > 0 ? 'no error behind this line' : 'no error before this line', false);
      return;
    }
    this.list.goTo(this.query.item(index).id, true);
  }

  private clearFilters(): void {
    this.query.setFilter({
      ...(this.wholeMesh ? { cell: null } : {}),
      minLevel: 0,
      ranks: null,
      targets: 3,
      hosts: null,
      text: '',
      time: null
    });
    this.search.clear();
    this.controls.cleared();
  }

  private copy(): void {
    const selected = this.list.selection();
    const text = selected ? Promise.resolve(selected) : shownText(this.query);
    text
      .then(copyText)
      .then(() => this.footer.report(selected ? 'copied the selection' : 'copied what is shown', false))
      .catch((error: unknown) => this.failed(error));
  }

  private copyRow(): void {
    copyText(this.list.selection() || this.list.currentText()).then(
      () => this.footer.report('copied', false),
      (error: unknown) => this.failed(error)
    );
  }

  /** Takes the focus before a notebook around the view gives it to its active cell, whose keys delete cells. */
  private takeFocus(event: MouseEvent): void {
    if (event.target instanceof Element && !this.node.contains(document.activeElement)) {
      const target = event.target.closest<HTMLElement>('button, input, select, [tabindex]');
      if (target && this.node.contains(target)) {
        target.focus({ preventScroll: true });
      }
    }
  }

  /** Keys that mean something wherever in the view they are pressed, but in a field. */
  private keyed(event: KeyboardEvent): void {
    const target = event.target;
    const typing =
      target instanceof HTMLInputElement || target instanceof HTMLSelectElement || this.help.node.open;
    if (event.defaultPrevented || event.altKey) {
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key === 'f') {
      this.command('find');
    } else {
      const command = event.ctrlKey || event.metaKey || typing ? undefined : KEY_COMMANDS[event.key];
      if (!command) {
        return;
      }
      this.command(command);
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
