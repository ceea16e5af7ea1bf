/** What a view is made from. */
import type { IQuery, ISession } from '../core/api';
import type { TimeMode } from './rows';

export interface ViewSettings {
  /** Whether it follows the end. */
  follow: boolean;
  /** Whether long lines wrap. */
  wrap: boolean;
  time: TimeMode;
  /** Height that the list of a cell takes at most, as CSS. */
  maxHeight: string;
}

export interface LogViewOptions {
  session: ISession;
  /** Shows the lines of this cell; null: of the whole mesh. */
  cell: number | null;
  settings?: Partial<ViewSettings>;
  /** Opens a file of a traceback; without it they are text. */
  openFile?: (path: string, line: number) => void;
  /** Takes all the height of its parent. */
  fill?: boolean;
  /** What to show, which the view disposes; by default a query of its own, over a core `Session`. */
  query?: IQuery;
}
