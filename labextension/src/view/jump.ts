/** The button over the end of a list that does not follow it: tells what came since, and leads there. */
import { element } from './dom';
import { lines } from './format';

export class JumpButton {
  readonly node = element('button', { type: 'button', class: 'lm-jump', hidden: true });
  /** Lines that were there when following paused. */
  private paused = 0;

  constructor(jump: () => void) {
    this.node.addEventListener('click', jump);
  }

  /** Following begins or ends, with so many lines. */
  followed(following: boolean, total: number): void {
    this.paused = following ? 0 : total;
  }

  /** Shows what is true now; `atEnd`: the end is in sight. Cheap: it may be called each frame. */
  show(atEnd: boolean, total: number): void {
    const fresh = total - this.paused;
    this.node.hidden = atEnd || fresh <= 0;
    if (!this.node.hidden) {
      this.node.textContent = `${lines(fresh).replace(' ', ' new ')}, jump to end`;
    }
  }
}
