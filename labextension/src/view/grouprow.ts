/** The row of a group: what its lines have in common, and opened what they differ in, and the lines. */
import type { GroupItem, GroupValues } from '../core/api';
import { levelSlot } from '../core/levels';
import { nameRanks } from '../core/ranks';
import { appendText } from './ansi';
import { element } from './dom';
import { clock, count, LEVEL_NAMES, lines } from './format';
import {
  disclosure,
  LONGEST_LINE,
  type RowActions,
  type RowLook,
  shell,
  textButton,
  times,
  UNFOLD_LINES,
  type Unfolded,
  who
} from './rowparts';
import { toText } from './sanitize';
import { slotTables } from './slottable';
import { appendTemplate } from './template';

/** A row with more would be slow. */
const MOST_UNFOLDED = 5000;
const MOST_RANK_CHIPS = 128;

export function groupRow(
  item: GroupItem,
  values: GroupValues | null,
  look: RowLook,
  actions: RowActions
): HTMLElement {
  const how = look.unfolded.get(item.id);
  const ranks = nameRanks(item.ranks, look.ranks);
  const [row, body] = shell(
    item,
    item.lastWall,
    who(ranks, item.job, item.target),
    `${lines(item.count)} by rank ${ranks}, ${clock(item.firstWall)} to ${clock(item.lastWall)}`,
    look
  );
  if (item.count > 1) {
    body.append(times(item.count));
    body.append(
      disclosure(how !== undefined, `${lines(item.count)} like ${toText(item.text).slice(0, 200)}`, () =>
        actions.unfold(item.id, how ? null : { ranks: null, most: UNFOLD_LINES })
      )
    );
  }
  const text = element('span', { class: 'lm-text' });
  if (item.shape === null) {
    appendText(text, item.text.slice(0, LONGEST_LINE), look);
  } else {
    appendTemplate(text, item.shape, values, values?.whole === false && item.held < item.count, look);
  }
  body.append(text);
  if (item.differs && item.shape === null) {
    const rest = item.others ? ' and lines of other kinds' : ' and lines like it';
    body.append(element('span', { class: 'lm-note' }, rest));
  }
  if (how) {
    body.append(groupInner(item, how, values, look, actions));
  }
  return row;
}

function groupInner(
  item: GroupItem,
  how: Unfolded,
  values: GroupValues | null,
  look: RowLook,
  actions: RowActions
): HTMLElement {
  const inner = element('div', { class: 'lm-inner' }, facts(item, look));
  if (item.shape !== null && item.shape.kinds !== '') {
    inner.append(slotTables(item, item.shape, values, look, actions));
  }
  if (item.ranks.length > 1) {
    inner.append(rankChips(item, how, actions));
  }
  const held = actions.groupLines(item, how);
  for (const line of held) {
    const text = element('span', {});
    appendText(text, line.text.slice(0, LONGEST_LINE), look);
    inner.append(
      element(
        'div',
        { class: 'lm-sub', title: `${clock(line.wall)}, host ${toText(line.source.host)}, pid ${line.source.pid}` },
        element('span', { class: 'lm-who' }, who(String(line.source.rank), line.job, line.target)),
        text
      )
    );
  }
  if (held.length >= how.most && how.most >= MOST_UNFOLDED) {
    inner.append(element('div', { class: 'lm-note' }, `${lines(held.length)} of ${count(item.held)}: ungrouped they are all in the list`));
  } else if (held.length >= how.most) {
    inner.append(
      textButton(`show more than ${lines(how.most)}`, () =>
        actions.unfold(item.id, { ranks: how.ranks, most: 5 * how.most })
      )
    );
  }
  if (item.held < item.count) {
    inner.append(
      element('div', { class: 'lm-note' }, `${lines(item.count - item.held)} of this group not shown here, all in the store`)
    );
  }
  return inner;
}

/** How many lines, of which level and whom, from when to when. */
function facts(item: GroupItem, look: RowLook): HTMLElement {
  const level = levelSlot(item.level);
  const parts = [
    lines(item.count),
    level ? (LEVEL_NAMES[level] ?? '') : '',
    `${item.ranks.length === 1 ? 'rank' : 'ranks'} ${nameRanks(item.ranks, look.ranks)}`,
    `${clock(item.firstWall)} to ${clock(item.lastWall)}`
  ];
  return element('div', { class: 'lm-facts' }, parts.filter(part => part !== '').join(' · '));
}

/** Choose whose lines to see. */
function rankChips(item: GroupItem, how: Unfolded, actions: RowActions): HTMLElement {
  const chips = element('div', { class: 'lm-chips', role: 'group', 'aria-label': 'Lines of' });
  const chip = (text: string, label: string, ranks: ReadonlySet<number> | null, on: boolean): void => {
    const node = textButton(text, () => actions.unfold(item.id, { ranks, most: UNFOLD_LINES }));
    node.classList.add('lm-chip');
    node.setAttribute('aria-label', label);
    node.setAttribute('aria-pressed', String(on));
    chips.append(node);
  };
  chip('all', 'all ranks', null, how.ranks === null);
  for (const rank of item.ranks.slice(0, MOST_RANK_CHIPS)) {
    chip(String(rank), `rank ${rank}`, new Set([rank]), how.ranks?.has(rank) === true);
  }
  if (item.ranks.length > MOST_RANK_CHIPS) {
    chips.append(element('span', { class: 'lm-note' }, `and ${count(item.ranks.length - MOST_RANK_CHIPS)} more ranks`));
  }
  return chips;
}
