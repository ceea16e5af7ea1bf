/**
 * Hides the static snapshot of a cell while a live view shows the same. The kernel puts the snapshot out
 * as an element with the classes `logmesh-snapshot` and `logmesh-of-<session>-<cell>`, that of the whole
 * mesh with `all` for the cell.
 */

const holders = new Map<string, { style: HTMLStyleElement; count: number }>();

/** Hides it until all who asked for that have called the undo that this gives. */
export function hideSnapshot(session: string, cell: number | null): () => void {
  const name = `logmesh-of-${session}-${cell ?? 'all'}`;
  if (!/^[\w-]+$/.test(name)) {
    return () => undefined;
  }
  let holder = holders.get(name);
  if (!holder) {
    const style = document.createElement('style');
    style.textContent = `.${name}{display:none}\n.jp-OutputArea-child:has(.${name}){display:none}`;
    document.head.append(style);
    holder = { style, count: 0 };
    holders.set(name, holder);
  }
  holder.count += 1;
  const held = holder;
  let undone = false;
  return () => {
    if (undone) {
      return;
    }
    undone = true;
    held.count -= 1;
    if (!held.count) {
      held.style.remove();
      holders.delete(name);
    }
  };
}
