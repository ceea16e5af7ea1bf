/** What stands below the lines: the receipt, what is hidden, the connection, and what happened last. */
import type { IQuery, ISession } from '../core/api';
import { element } from './dom';
import { count, lines } from './format';

const MESSAGE_MS = 8000;

export class Footer {
  readonly node: HTMLElement;
  /** Where buttons stand, at the right. */
  readonly tools = element('span', { class: 'lm-foot-tools' });
  private readonly receipt = element('span', { class: 'lm-receipt' });
  private readonly counts = element('span', { class: 'lm-counts' });
  private readonly hidden: HTMLButtonElement;
  private readonly trouble = element('span', { class: 'lm-trouble', role: 'status' });
  private readonly message = element('span', { class: 'lm-message', role: 'status' });
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wasConnected = false;

  constructor(
    private readonly session: ISession,
    private readonly query: IQuery,
    private readonly cell: number | null,
    clearFilters: () => void
  ) {
    this.hidden = element('button', { type: 'button', class: 'lm-link', title: 'Clear the filters' });
    this.hidden.addEventListener('click', clearFilters);
    this.node = element(
      'div',
      { class: 'lm-foot' },
      this.receipt,
      this.counts,
      this.hidden,
      this.trouble,
      this.message,
      this.tools
    );
  }

  dispose(): void {
    clearTimeout(this.timer);
  }

  /** Shows a message for a while; empty takes it back. */
  report(text: string, error: boolean): void {
    clearTimeout(this.timer);
    this.message.textContent = error && text ? `✕ ${text}` : text;
    this.message.classList.toggle('lm-error-text', error);
    if (text && !error) {
      this.timer = setTimeout(() => (this.message.textContent = ''), MESSAGE_MS);
    }
  }

  /** Shows what is true now. Cheap: it may be called each frame. */
  show(): void {
    this.showReceipt();
    const { hidden } = this.query;
    const told = this.cell !== null && !hidden && this.receipt.dataset['of'];
    this.set(this.counts, told ? '' : this.countsText());
    this.set(this.hidden, hidden ? `${count(hidden)} hidden by filters · clear` : '');
    this.hidden.hidden = !hidden;
    this.showTrouble();
  }

  /** A filter knows nothing of lines that are not held, so they count as shown only without one. */
  private countsText(): string {
    const { shown, hidden, notHeld, working } = this.query;
    if (!shown && !hidden && !notHeld) {
      return '';
    }
    const rest = notHeld ? `, ${count(notHeld)} not shown here` : '';
    return `${lines(hidden ? shown : shown + notHeld)}${working ? ' …' : ''}${rest}`;
  }

  private set(node: HTMLElement, text: string): void {
    if (node.textContent !== text) {
      node.textContent = text;
    }
  }

  private showReceipt(): void {
    const receipt = this.cell === null ? this.session.lastReceipt : this.session.receipt(this.cell);
    const key = receipt ? `${receipt.complete} ${receipt.text}` : '';
    if (this.receipt.dataset['of'] === key) {
      return;
    }
    this.receipt.dataset['of'] = key;
    this.receipt.replaceChildren();
    if (receipt) {
      this.receipt.append(
        element('span', { class: receipt.complete ? 'lm-tick' : 'lm-cross', 'aria-hidden': 'true' }, receipt.complete ? '✓ ' : '✕ '),
        element('span', { class: 'lm-hidden' }, receipt.complete ? 'complete: ' : 'not complete: '),
        receipt.text
      );
      this.receipt.title = 'What the barrier proved';
    }
  }

  private showTrouble(): void {
    this.wasConnected ||= this.session.connected;
    const state = this.session.state;
    const parts: string[] = [];
    if (!this.session.connected) {
      parts.push(this.wasConnected ? 'connection to the kernel lost: what came so far stays' : 'not connected to the kernel');
    } else if (state?.mesh === 'lost') {
      parts.push('the mesh is lost');
    } else if (state?.mesh === 'stopped' && this.cell === null) {
      parts.push('the mesh is stopped');
    }
    if (state?.trouble) {
      parts.push(state.trouble);
    }
    this.set(this.trouble, parts.join(' · '));
  }
}
