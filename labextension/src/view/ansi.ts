/**
 * Log text as DOM nodes: SGR colours, marked matches, file positions as buttons. Text gets into the page
 * by text nodes only; of its escapes only validated numbers and names of a fixed palette reach a style.
 */
import Anser from 'anser';
import { inert, splitSgr } from './sanitize';

/** A stretch of text of one look. `css` is empty for plain text. */
export interface Run {
  text: string;
  css: string;
}

/** Beyond so many changes of style the rest of a line keeps the last one. */
const MOST_RUNS = 1000;
const CSI = '\x1b[';
const NAMED = /^ansi-(bright-)?(black|red|green|yellow|blue|magenta|cyan|white)$/;
const CUBE = [0, 95, 135, 175, 215, 255] as const;

/** The parameters as Anser reads them: colons as semicolons, underline styles as underlines. */
function normal(parameters: string): string {
  if (!parameters.includes(':') && !parameters.includes('21')) {
    return parameters;
  }
  return parameters
    .split(';')
    .map(group => {
      const [code, ...values] = group.split(':');
      if (code === '21') {
        return '4';
      }
      if (code === '4' && values.length) {
        return values[0] === '0' ? '24' : '4';
      }
      if (values[0] === '2' && values.length > 4) {
        values.splice(1, 1);
      }
      return [code, ...values.map(value => value || '0')].join(';');
    })
    .join(';');
}

/** CSS of a colour as Anser names it; empty if it is none. */
function colour(name: string | null, rgb: string | null): string {
  if (name === null) {
    return '';
  }
  const named = NAMED.exec(name);
  if (named) {
    return `var(--lm-${named[1] ?? ''}${named[2]})`;
  }
  const palette = /^ansi-palette-(\d{1,3})$/.exec(name);
  if (palette) {
    const index = Number(palette[1]);
    if (index >= 232 && index < 256) {
      const grey = 8 + 10 * (index - 232);
      return `rgb(${grey},${grey},${grey})`;
    }
    if (index >= 16 && index < 232) {
      const cube = index - 16;
      const part = (value: number): number => CUBE[value % 6] ?? 0;
      return `rgb(${part(Math.floor(cube / 36))},${part(Math.floor(cube / 6))},${part(cube)})`;
    }
  }
  const triple = name === 'ansi-truecolor' ? /^(\d{1,3}), ?(\d{1,3}), ?(\d{1,3})$/.exec(rgb ?? '') : null;
  return triple && triple.slice(1).every(value => Number(value) < 256)
    ? `rgb(${triple[1]},${triple[2]},${triple[3]})`
    : '';
}

function look(entry: Anser.AnserJsonEntry): string {
  const inverted = (entry as { isInverted?: boolean }).isInverted === true;
  let foreground = colour(entry.fg, entry.fg_truecolor);
  let background = colour(entry.bg, entry.bg_truecolor);
  if (inverted) {
    // Anser puts black and white where a swapped colour was not set; ours follow the theme.
    foreground = entry.fg === 'ansi-black' ? 'var(--lm-paper)' : foreground;
    background = entry.bg === 'ansi-white' ? 'var(--lm-ink)' : background;
  }
  const css: string[] = [];
  if (foreground) {
    css.push(`color:${foreground}`);
  }
  if (background) {
    css.push(`background-color:${background}`);
    if (!foreground) {
      css.push('color:var(--lm-ink)');
    }
  }
  const decorations = new Set(entry.decorations);
  if (decorations.has('bold')) {
    css.push('font-weight:bold');
  }
  if (decorations.has('dim')) {
    css.push('opacity:0.75');
  }
  if (decorations.has('italic')) {
    css.push('font-style:italic');
  }
  const under = decorations.has('underline');
  const through = decorations.has('strikethrough');
  if (under || through) {
    css.push(`text-decoration:${under ? 'underline' : ''}${under && through ? ' ' : ''}${through ? 'line-through' : ''}`);
  }
  return css.join(';');
}

/** What is shown of a line, as runs. The texts, joined, are `toText` of it. */
export function runs(text: string): Run[] {
  if (!text.includes('\x1b')) {
    return text ? [{ text: inert(text), css: '' }] : [];
  }
  const safe: string[] = [];
  let sequences = 0;
  splitSgr(
    text,
    piece => safe.push(inert(piece)),
    parameters => {
      sequences += 1;
      if (sequences <= MOST_RUNS) {
        safe.push(`${CSI}${normal(parameters)}m`);
      }
    }
  );
  if (!sequences) {
    const shown = safe.join('');
    return shown ? [{ text: shown, css: '' }] : [];
  }
  const found: Run[] = [];
  for (const entry of Anser.ansiToJson(safe.join(''), { use_classes: true, remove_empty: true })) {
    const css = entry.was_processed ? look(entry) : '';
    const last = found[found.length - 1];
    if (last?.css === css) {
      last.text += entry.content;
    } else {
      found.push({ text: entry.content, css });
    }
  }
  return found;
}

export interface TextOptions {
  /** A global expression whose matches are marked; null: none. */
  marked: RegExp | null;
  /** Makes file positions buttons; null: they stay text. */
  openFile: ((path: string, line: number) => void) | null;
}

interface Stretch {
  start: number;
  end: number;
  /** Null: a match. */
  open: (() => void) | null;
}

const MOST_MATCHES = 200;
const FILE = /File "([^"\n]{1,500})", line (\d{1,7})|((?:[\w.-]*\/)*[\w-][\w.-]*\.pyx?):(\d{1,7})\b/g;

function matches(text: string, expression: RegExp): Stretch[] {
  const found: Stretch[] = [];
  expression.lastIndex = 0;
  for (const match of text.matchAll(expression)) {
    if (match[0] && found.push({ start: match.index, end: match.index + match[0].length, open: null }) >= MOST_MATCHES) {
      break;
    }
  }
  return found;
}

function files(text: string, open: (path: string, line: number) => void): Stretch[] {
  if (!text.includes('.py') && !text.includes('File "')) {
    return [];
  }
  return [...text.matchAll(FILE)].slice(0, MOST_MATCHES).map(match => {
    const path = match[1] ?? match[3] ?? '';
    const line = Number(match[2] ?? match[4]);
    return { start: match.index, end: match.index + match[0].length, open: () => open(path, line) };
  });
}

/** Appends `text` to `parent`, as text nodes in spans, marks and buttons. */
export function appendText(parent: Element, text: string, options: TextOptions): void {
  const pieces = runs(text);
  const whole = pieces.length === 1 ? (pieces[0]?.text ?? '') : pieces.map(piece => piece.text).join('');
  const marks = options.marked ? matches(whole, options.marked) : [];
  const links = options.openFile ? files(whole, options.openFile) : [];
  const document = parent.ownerDocument;
  if (!marks.length && !links.length) {
    for (const piece of pieces) {
      parent.append(styled(document, piece.text, piece.css));
    }
    return;
  }
  const edges = [...new Set([...marks, ...links].flatMap(stretch => [stretch.start, stretch.end]))].sort(
    (left, right) => left - right
  );
  let start = 0;
  for (const piece of pieces) {
    const end = start + piece.text.length;
    const cuts = [start, ...edges.filter(edge => edge > start && edge < end), end];
    for (let index = 0; index + 1 < cuts.length; index += 1) {
      const from = cuts[index] ?? start;
      const to = cuts[index + 1] ?? end;
      const within = (stretch: Stretch): boolean => stretch.start <= from && stretch.end >= to;
      let node: Node = styled(document, whole.slice(from, to), piece.css);
      if (marks.some(within)) {
        const mark = document.createElement('mark');
        mark.append(node);
        node = mark;
      }
      const open = links.find(within)?.open;
      if (open) {
        const button = document.createElement('button');
        button.type = 'button';
        button.className = 'lm-file';
        button.title = 'Open this file at this line';
        button.tabIndex = -1;
        button.addEventListener('click', open);
        button.append(node);
        node = button;
      }
      parent.append(node);
    }
    start = end;
  }
}

function styled(document: Document, text: string, css: string): Node {
  if (!css) {
    return document.createTextNode(text);
  }
  const span = document.createElement('span');
  span.style.cssText = css;
  span.textContent = text;
  return span;
}

/** The expression that a search means; null for no text, or no valid expression. */
export function searchExpression(text: string, regex: boolean, matchCase: boolean): RegExp | null {
  if (!text) {
    return null;
  }
  try {
    return new RegExp(regex ? text : text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), matchCase ? 'g' : 'gi');
  } catch {
    return null;
  }
}
