/** A button with a panel below it: a choice, Escape, a click elsewhere or leaving it by Tab closes it. */
import { button, element, type IconName } from './dom';

export class Popup {
  /** The button and its panel. */
  readonly node: HTMLElement;
  readonly button: HTMLButtonElement;
  readonly panel: HTMLElement;
  private readonly outside = (event: Event): void => {
    if (!this.node.contains(event.target as Node)) {
      this.close(false);
    }
  };
  private readonly scrolled = (event: Event): void => {
    if (event.target instanceof Node && event.target.contains(this.button)) {
      const anchor = this.button.getBoundingClientRect();
      if (anchor.bottom < 0 || anchor.top > window.innerHeight) {
        this.close(false);
      } else {
        this.place();
      }
    }
  };

  constructor(label: string, picture: IconName, content: readonly HTMLElement[]) {
    this.button = button(label, picture, () => (this.panel.hidden ? this.open() : this.close(true)));
    this.button.setAttribute('aria-haspopup', 'true');
    this.button.setAttribute('aria-expanded', 'false');
    this.panel = element(
      'div',
      { class: 'lm-panel', hidden: true, popover: 'manual', role: 'group', 'aria-label': label },
      ...content
    );
    this.node = element('span', { class: 'lm-popup' }, this.button, this.panel);
    this.panel.addEventListener('click', event => {
      if (event.target instanceof Element && event.target.closest('.lm-choice')) {
        this.close(true);
      }
    });
    this.node.addEventListener('keydown', event => this.keyed(event));
    this.node.addEventListener('focusout', event => {
      if (event.relatedTarget instanceof Node && !this.node.contains(event.relatedTarget)) {
        this.close(false);
      }
    });
  }

  open(): void {
    this.panel.hidden = false;
    this.button.setAttribute('aria-expanded', 'true');
    // In the top layer no output area clips it. Older browsers have none.
    if ('showPopover' in this.panel) {
      this.panel.showPopover();
    }
    this.place();
    document.addEventListener('pointerdown', this.outside, true);
    document.addEventListener('scroll', this.scrolled, true);
    this.controls()[0]?.focus();
  }

  close(focusButton: boolean): void {
    if (!this.panel.hidden) {
      if ('hidePopover' in this.panel) {
        this.panel.hidePopover();
      }
      this.panel.hidden = true;
    }
    this.button.setAttribute('aria-expanded', 'false');
    this.dispose();
    if (focusButton) {
      this.button.focus();
    }
  }

  /** Takes its listeners away. */
  dispose(): void {
    document.removeEventListener('pointerdown', this.outside, true);
    document.removeEventListener('scroll', this.scrolled, true);
  }

  /** Below the button, or above it where there is no room; within the window. */
  private place(): void {
    const anchor = this.button.getBoundingClientRect();
    const own = this.panel.getBoundingClientRect();
    const below = anchor.bottom + own.height + 4 <= window.innerHeight;
    const left = Math.max(4, Math.min(anchor.left, window.innerWidth - own.width - 4));
    this.panel.style.left = `${left}px`;
    this.panel.style.top = `${below ? anchor.bottom + 2 : Math.max(4, anchor.top - own.height - 2)}px`;
  }

  private controls(): HTMLElement[] {
    return [...this.panel.querySelectorAll<HTMLElement>('button:not([disabled]), select, input')];
  }

  private keyed(event: KeyboardEvent): void {
    if (this.panel.hidden) {
      return;
    }
    const controls = this.controls();
    const at = controls.indexOf(document.activeElement as HTMLElement);
    const onButton = document.activeElement instanceof HTMLButtonElement;
    if (event.key === 'Escape') {
      this.close(true);
    } else if (onButton && (event.key === 'ArrowDown' || event.key === 'ArrowUp') && controls.length) {
      const step = event.key === 'ArrowDown' ? 1 : -1;
      controls[(at + step + controls.length) % controls.length]?.focus();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
