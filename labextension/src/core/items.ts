/** What a list shows, made from the store when it is asked for. */
import type { BlockItem, LineItem, LiveItem, SkipItem, SkippedGroup } from './api';
import { settle, withoutMoves } from './carriage';
import { levelOf } from './levels';
import type { LineStore } from './lines';
import { LineFlag } from './protocol';
import type { LiveMessage } from './protocol';
import type { Segment } from './segment';
import type { SkipGroup } from './skipgroups';
import type { Skip } from './skips';
import type { Sources } from './sources';
import { templateText } from './templates';
import type { Templates } from './templates';
import type { Block } from './tracebacks';

const BLOCK_LEVEL = 40;

export class ItemMaker {
  constructor(
    private readonly store: LineStore,
    private readonly sources: Sources,
    private readonly templates: Templates
  ) {}

  line(segment: Segment, index: number): LineItem {
    const source = this.sources.at(segment.source[index] as number);
    const flags = segment.flags[index] as number;
    const row = segment.first + index;
    return {
      kind: 'line',
      id: `r${row}`,
      row,
      source,
      target: segment.target[index] as number,
      job: source.job,
      level: segment.level[index] as number,
      cell: segment.cell[index] as number,
      wall: segment.wall[index] as number,
      text: segment.shown(index),
      note: noteOf(flags, segment.trueBytes.get(index) ?? 0),
      continued: (flags & LineFlag.continued) !== 0,
      shortened: (flags & LineFlag.shortened) !== 0
    };
  }

  block(block: Block, ranks: readonly number[], count: number): BlockItem {
    const source = this.sources.at(block.source);
    const lines = this.blockLines(block);
    return {
      kind: 'block',
      id: `b${block.head}`,
      row: block.head,
      source, ranks, count, lines,
      target: block.target,
      job: source.job,
      level: BLOCK_LEVEL,
      cell: block.cell,
      wall: block.wall,
      title: block.title === '' ? (lines[lines.length - 1] ?? '') : block.title,
      open: block.open
    };
  }

  /** Its lines as far as they are held. */
  blockLines(block: Block): string[] {
    const lines: string[] = [];
    for (const row of block.rows) {
      const segment = this.store.segmentOf(row);
      if (segment !== null) {
        lines.push(segment.raw(row - segment.first));
      }
    }
    return lines;
  }

  /** Without the lines of some groups, which are shown elsewhere or do not pass. */
  skip(skip: Skip, cell: number | null, apart: readonly SkipGroup[] = []): SkipItem {
    const { summary } = skip;
    const groups = skip.tells
      ? summary.groups.filter(group => (cell === null || group.cell === cell) && !apart.includes(group))
      : [];
    const [first, end] = skip.rowsOf(cell);
    return {
      kind: 'skip',
      id: `s${skip.first}`,
      first,
      end,
      lines: skip.linesOf(cell, apart),
      known: summary.known,
      groups: groups.map(group => this.skippedGroup(group)),
      others: skip.linesOf(cell, summary.groups),
      errors: skip.tells ? summary.errorsOf(cell, apart) : 0,
      wall: summary.wall,
      loading: this.store.isLoading(skip)
    };
  }

  private skippedGroup(group: SkipGroup): SkippedGroup {
    const { count, ranks, level, target, job } = group;
    const shape = group.differs ? this.templates.shape(group.template) : null;
    const text = shape === null ? group.text : templateText(shape);
    return { text, shape, count, ranks, level, target, job };
  }

  live([id, target, cell, wall, raw]: LiveMessage['lines'][number]): LiveItem {
    const source = this.sources.at(this.sources.indexOf(id));
    const text = settle(withoutMoves(raw));
    return {
      kind: 'live',
      id: `v${id}.${target}`,
      source, target, cell, wall, text,
      job: source.job,
      level: levelOf(text)
    };
  }
}

function noteOf(flags: number, bytes: number): string {
  if (flags & LineFlag.truncated) {
    const kept = flags & LineFlag.overwritten ? 'end kept' : 'cut';
    return `line of ${bytes.toLocaleString('en')} bytes, ${kept}`;
  }
  if (flags & LineFlag.shortened) {
    return `line of ${bytes.toLocaleString('en')} bytes, shortened here`;
  }
  return flags & LineFlag.broken ? 'bytes next to it are missing' : '';
}
