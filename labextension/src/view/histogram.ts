/**
 * Lines over time, stacked by level, on a canvas. A drag, or shift with the arrow keys, chooses a stretch
 * of time; a double click or Escape takes it back.
 */
import type { IQuery } from '../core/api';
import { element, Frame, Throttle } from './dom';
import { clock, count, LEVEL_NAMES, lines } from './format';

const BAR_PIXELS = 5;
/** Few bars are no wider than that. */
const WIDEST_BAR = 40;
const UPDATE_MS = 300;
/** The order of the stack from below, as indices of `LevelCounts`. */
const STACK = [1, 0, 2, 3, 4, 5] as const;
const COLOURS = ['--lm-bar', '--lm-bar-debug', '--lm-bar', '--lm-warn', '--lm-error', '--lm-critical'] as const;

type Histogram = ReturnType<IQuery['histogram']>;

export class HistogramView {
  readonly node: HTMLElement;
  private readonly canvas = element('canvas', {});
  private readonly tip = element('span', { class: 'lm-tip', 'aria-hidden': 'true' });
  private readonly frame = new Frame(() => this.draw());
  private readonly throttle = new Throttle(() => this.frame.request(), UPDATE_MS);
  private readonly sizes: ResizeObserver | null;
  private readonly undo: (() => void)[];
  private data: Histogram = { step: 1, bins: [] };
  private drag: { from: number; to: number } | null = null;
  private cursor: number | null = null;
  private mark: number | null = null;

  /** `zoom` gets the stretch of time to show; null: all. */
  constructor(
    private readonly query: IQuery,
    private readonly zoom: (time: [number, number] | null) => void
  ) {
    this.node = element('div', { class: 'lm-histogram', tabindex: 0, role: 'img' }, this.canvas, this.tip);
    this.undo = [
      query.on('grown', () => this.throttle.request()),
      query.on('changed', () => this.throttle.request())
    ];
    this.sizes = typeof ResizeObserver === 'undefined' ? null : new ResizeObserver(() => this.frame.request());
    this.sizes?.observe(this.node);
    this.node.addEventListener('pointerdown', event => this.dragStarted(event));
    this.node.addEventListener('pointermove', event => this.dragged(event));
    this.node.addEventListener('pointerup', () => this.dragEnded());
    this.node.addEventListener('pointerleave', () => {
      if (!this.drag) {
        this.point(null);
      }
    });
    this.node.addEventListener('pointercancel', () => {
      this.drag = null;
      this.frame.request();
    });
    this.node.addEventListener('dblclick', () => this.zoom(null));
    this.node.addEventListener('keydown', event => this.keyed(event));
    this.node.addEventListener('blur', () => this.point(null));
  }

  dispose(): void {
    this.undo.forEach(undo => undo());
    this.throttle.cancel();
    this.frame.cancel();
    this.sizes?.disconnect();
  }

  /** Draws soon: what it shows, or its colours, have changed. */
  update(): void {
    this.frame.request();
  }

  private draw(): void {
    const width = this.node.clientWidth;
    const height = this.canvas.clientHeight;
    if (this.node.hidden || width <= 0 || height <= 0) {
      return;
    }
    this.data = this.query.histogram(Math.max(10, Math.floor(width / BAR_PIXELS)));
    this.label();
    const ratio = window.devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== wide || this.canvas.height !== high) {
      this.canvas.width = wide;
      this.canvas.height = high;
    }
    const context = this.canvas.getContext('2d');
    if (!context) {
      return;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.paint(context, width, height);
  }

  private paint(context: CanvasRenderingContext2D, width: number, height: number): void {
    const { bins, step } = this.data;
    const style = getComputedStyle(this.node);
    const paints = COLOURS.map(name => style.getPropertyValue(name).trim() || '#888');
    const most = Math.max(1, ...bins.map(bin => total(bin.counts)));
    const bar = this.barWidth(width);
    bins.forEach((bin, index) => {
      let bottom = height;
      for (const level of STACK) {
        const value = bin.counts[level];
        if (value) {
          // Few errors among many lines must not vanish.
          const pixels = Math.max(level >= 3 ? 2 : 1, Math.round((value / most) * (height - 3)));
          context.fillStyle = paints[level] ?? '#888';
          context.fillRect(index * bar, bottom - pixels, Math.max(1, bar - 1), pixels);
          bottom -= pixels;
        }
      }
    });
    const first = bins[0]?.start ?? 0;
    const chosen = this.stretch() ?? this.query.filter.time;
    if (chosen && bins.length) {
      const left = ((chosen[0] - first) / step) * bar;
      const right = ((chosen[1] - first) / step) * bar;
      context.fillStyle = style.getPropertyValue('--lm-choice').trim() || 'rgba(33,150,243,0.2)';
      context.fillRect(left, 0, Math.max(2, right - left), height);
    }
    if (this.cursor !== null && this.cursor < bins.length) {
      context.fillStyle = style.getPropertyValue('--lm-ink').trim() || '#000';
      context.globalAlpha = 0.25;
      context.fillRect(this.cursor * bar, 0, Math.max(1, bar - 1), height);
      context.globalAlpha = 1;
    }
  }

  private barWidth(width: number): number {
    return Math.min(WIDEST_BAR, width / Math.max(1, this.data.bins.length));
  }

  private stretch(): [number, number] | null {
    const pair: [number, number] | null = this.drag
      ? [this.drag.from, this.drag.to]
      : this.mark !== null && this.cursor !== null
        ? [this.mark, this.cursor]
        : null;
    const start = this.data.bins[0]?.start;
    if (!pair || start === undefined) {
      return null;
    }
    const [first, last] = [Math.min(...pair), Math.max(...pair)];
    return [start + first * this.data.step, start + (last + 1) * this.data.step];
  }

  private indexAt(event: PointerEvent): number {
    const x = event.clientX - this.node.getBoundingClientRect().left;
    const index = Math.floor(x / this.barWidth(this.node.clientWidth));
    return Math.min(this.data.bins.length - 1, Math.max(0, index));
  }

  private dragStarted(event: PointerEvent): void {
    if (event.button !== 0 || !this.data.bins.length) {
      return;
    }
    this.node.setPointerCapture(event.pointerId);
    const index = this.indexAt(event);
    this.mark = null;
    this.drag = { from: index, to: index };
  }

  private dragged(event: PointerEvent): void {
    if (!this.data.bins.length) {
      return;
    }
    const index = this.indexAt(event);
    if (this.drag) {
      this.drag.to = index;
    }
    this.point(index);
  }

  private dragEnded(): void {
    const moved = this.drag && this.drag.from !== this.drag.to;
    const time = this.stretch();
    this.drag = null;
    if (moved && time) {
      this.zoom(time);
    }
    this.frame.request();
  }

  private point(index: number | null): void {
    this.cursor = index;
    const bin = index === null ? undefined : this.data.bins[index];
    this.tip.textContent = bin ? `${clock(bin.start, this.data.step < 1)}: ${levelsText(bin.counts)}` : '';
    this.frame.request();
  }

  private keyed(event: KeyboardEvent): void {
    const last = this.data.bins.length - 1;
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step !== undefined && last >= 0) {
      const from = this.cursor ?? (step > 0 ? -1 : last + 1);
      this.mark = event.shiftKey ? (this.mark ?? Math.max(0, Math.min(last, from))) : null;
      this.point(Math.min(last, Math.max(0, from + step)));
    } else if (event.key === 'Enter' && this.cursor !== null) {
      this.mark ??= this.cursor;
      const time = this.stretch();
      this.mark = null;
      if (time) {
        this.zoom(time);
      }
    } else if (event.key === 'Escape' && (this.query.filter.time || this.mark !== null)) {
      this.mark = null;
      this.zoom(null);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  private label(): void {
    const { bins, step } = this.data;
    const sums = [0, 0, 0, 0, 0, 0];
    for (const bin of bins) {
      bin.counts.forEach((value, level) => (sums[level] = (sums[level] ?? 0) + value));
    }
    const first = bins[0];
    const final = bins[bins.length - 1];
    this.node.setAttribute(
      'aria-label',
      first && final
        ? `Lines over time, ${clock(first.start, false)} to ${clock(final.start + step, false)}: ${levelsText(sums)}. ` +
            'Arrow keys move, Shift and arrow keys choose, Enter zooms, Escape shows all.'
        : 'Lines over time: none yet'
    );
  }
}

function total(counts: readonly number[]): number {
  return counts.reduce((sum, value) => sum + value, 0);
}

function levelsText(counts: readonly number[]): string {
  const parts = counts
    .map((value, level) => (value && level ? `${count(value)} ${LEVEL_NAMES[level] ?? ''}` : ''))
    .filter(part => part);
  const all = lines(total(counts));
  return parts.length ? `${all} (${parts.join(', ')})` : all;
}
