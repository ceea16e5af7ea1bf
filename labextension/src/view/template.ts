/**
 * A template with its slots marked. A slot shows what is known of its values; for who can't see it, and
 * for the clipboard, it is `<#>` or `<*>`.
 */
import type { GroupValues, NumberValues, SlotValues } from '../core/api';
import { SlotKind } from '../core/protocol';
import type { Shape } from '../core/templates';
import { appendText, type TextOptions } from './ansi';
import { element } from './dom';
import { count, quantity } from './format';
import { LONGEST_LINE } from './rowparts';
import { toText } from './sanitize';

const CHIP_DIGITS = 4;
/** So many tell any two numbers apart. */
const MOST_DIGITS = 17;
const LONGEST_VALUE = 24;

/** Appends a template to `parent`: its constant text as that of lines, its slots as chips. `partial`: the
 * values are those of some of the lines only. */
export function appendTemplate(
  parent: Element,
  { pieces, kinds }: Shape,
  values: GroupValues | null,
  partial: boolean,
  look: TextOptions
): void {
  let room = LONGEST_LINE;
  for (const [at, piece] of pieces.entries()) {
    if (room <= 0) {
      parent.append('…');
      return;
    }
    appendText(parent, piece.slice(0, room), look);
    room -= piece.length;
    if (at < kinds.length) {
      parent.append(chip(kinds[at] as string, values?.slots[at] ?? null, partial));
      room -= LONGEST_VALUE;
    }
  }
}

/** The sign of a slot of a kind, as it stands in the table of a group's slots. */
export function slotSign(kind: string): HTMLElement {
  return element('span', { class: `lm-slot ${lookOf(kind)}`, 'data-shown': kind, 'aria-hidden': 'true' });
}

function chip(kind: string, values: SlotValues | null, partial: boolean): HTMLElement {
  const [shown, known] = values === null ? [kind, ''] : summary(values);
  const said = known && partial ? `${known} in some of the lines` : known;
  return element(
    'span',
    {
      class: `lm-slot ${lookOf(kind)}`,
      role: 'img',
      'aria-label': `${kind === SlotKind.number ? 'number' : 'text'}${said && `, ${said}`}`,
      title: said || null,
      // Drawn by the stylesheet: what is selected and copied is the sign of the slot.
      'data-shown': known && partial ? `~${shown}` : shown
    },
    element('span', { class: 'lm-sign' }, `<${kind}>`)
  );
}

function lookOf(kind: string): string {
  return kind === SlotKind.number ? 'lm-slot-number' : 'lm-slot-text';
}

/** What a chip shows, and the same in words. */
function summary(values: SlotValues): [string, string] {
  if (values.kind === SlotKind.number) {
    if (values.min === values.max) {
      const only = quantity(values.min, CHIP_DIGITS);
      return [only, only];
    }
    const [min, max] = ends(values);
    return [`${min}…${max}`, `${min} to ${max}`];
  }
  const [only] = values.top;
  if (only !== undefined && values.distinct === 1 && !values.more) {
    const text = only.value === '' ? 'nothing' : toText(only.value);
    return [text.length > LONGEST_VALUE ? `${text.slice(0, LONGEST_VALUE)}…` : text, `always ${text.slice(0, 200)}`];
  }
  const distinct = `${count(values.distinct)}${values.more ? '+' : ''} values`;
  return [distinct, distinct];
}

/** The least and the greatest, which differ, with as many digits as it takes to tell them apart. */
function ends({ min, max }: NumberValues): [string, string] {
  for (let digits = CHIP_DIGITS; digits <= MOST_DIGITS; digits += 1) {
    const [least, most] = [quantity(min, digits), quantity(max, digits)];
    if (least !== most) {
      return [least, most];
    }
  }
  return [String(min), String(max)];
}
