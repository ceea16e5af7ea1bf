/** Small helpers to build elements. Text is always text: nothing here parses markup. */

type Child = Node | string | null;

/** Attributes by name; `true` sets an empty one, `false` and null leave it out. */
export type Attributes = Record<string, string | number | boolean | null>;

export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) {
      node.setAttribute(name, value === true ? '' : String(value));
    }
  }
  for (const child of children) {
    if (child !== null) {
      node.append(child);
    }
  }
  return node;
}

/** Outlines on a 16 by 16 grid, drawn with strokes. */
const ICONS = {
  controls: 'M2.5 5h7M12.5 5h1M2.5 11h1M6.5 11h7M9.5 3.5v3M6.5 9.5v3',
  down: 'M8 3v9M4 8.5L8 12.5l4-4',
  download: 'M8 2v7M5 6.5l3 3 3-3M2.5 10v3.5h11V10',
  end: 'M8 2v8M4.5 7L8 10.5 11.5 7M3 13.5h10',
  filter: 'M2.5 3.5h11L9.5 8.5v4.5l-3-1.5V8.5z',
  flush: 'M2.5 8.5l3.5 3.5 7.5-8M2.5 14h11',
  group: 'M2.5 3.5h11M5.5 7h8M5.5 10h8M2.5 13.5h11',
  more: 'M3 7.7h.6v.6H3zM7.7 7.7h.6v.6h-.6zM12.4 7.7h.6v.6h-.6z',
  procs: 'M2.5 2.5h4.5v4.5H2.5zM9.5 2.5h4v4.5h-4zM2.5 9.5h4.5v4H2.5zM9.5 9.5h4v4h-4z',
  time: 'M8 2a6 6 0 1 1 0 12a6 6 0 0 1 0-12M8 4.5V8l2.5 1.5',
  up: 'M8 13V4M4 7.5l4-4 4 4',
  wrap: 'M2.5 3.5h11M2.5 8h9a2.3 2.3 0 0 1 0 4.6H8M9.8 10.7L8 12.6l1.8 1.9M2.5 12.5h3'
} as const;

export type IconName = keyof typeof ICONS;

export function icon(name: IconName): SVGSVGElement {
  const space = 'http://www.w3.org/2000/svg';
  const picture = document.createElementNS(space, 'svg');
  picture.setAttribute('viewBox', '0 0 16 16');
  picture.setAttribute('class', 'lm-icon');
  picture.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(space, 'path');
  path.setAttribute('d', ICONS[name]);
  picture.append(path);
  return picture;
}

/** A button with an icon, or with text where `text` is given; `label` names it for all. */
export function button(
  label: string,
  picture: IconName | null,
  click: (event: MouseEvent) => void,
  options: { text?: string; title?: string; class?: string } = {}
): HTMLButtonElement {
  const node = element('button', {
    type: 'button',
    class: `lm-button ${options.class ?? ''}`,
    title: options.title ?? label,
    'aria-label': options.text === label ? null : label
  });
  if (picture) {
    node.append(icon(picture));
  }
  if (options.text) {
    node.append(element('span', {}, options.text));
  }
  node.addEventListener('click', click);
  return node;
}

/** Shows a button as pressed or not. */
export function press(node: HTMLElement, pressed: boolean): void {
  node.setAttribute('aria-pressed', String(pressed));
}

/** A select of `[value, text]`. */
export function select(
  label: string,
  choices: readonly (readonly [string, string])[],
  change: (value: string) => void
): HTMLSelectElement {
  const node = element('select', { class: 'lm-select', 'aria-label': label, title: label });
  for (const [value, text] of choices) {
    node.append(element('option', { value }, text));
  }
  node.addEventListener('change', () => change(node.value));
  return node;
}

/** Calls a function at most once a frame, however often it is asked for. */
export class Frame {
  private handle = 0;

  constructor(private readonly run: () => void) {}

  request(): void {
    if (!this.handle) {
      this.handle = requestAnimationFrame(() => {
        this.handle = 0;
        this.run();
      });
    }
  }

  cancel(): void {
    cancelAnimationFrame(this.handle);
    this.handle = 0;
  }
}

/** Calls a function soon, and at most once in `pause` milliseconds; the last request is never lost. */
export class Throttle {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private last = -Infinity;

  constructor(
    private readonly run: () => void,
    private readonly pause: number
  ) {}

  request(): void {
    if (this.timer === undefined) {
      const wait = Math.max(0, this.last + this.pause - performance.now());
      this.timer = setTimeout(() => {
        this.timer = undefined;
        this.last = performance.now();
        this.run();
      }, wait);
    }
  }

  cancel(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}
