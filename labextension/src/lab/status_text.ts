/** What the status bar says of a session. */
import type { ISession } from '../core/api';

/** In short: the procs that run of all in the mesh, how much they say now, and the errors among it. */
export function statusText(session: Pick<ISession, 'procs' | 'rate' | 'errors' | 'state' | 'connected'>): string {
  const procs = session.procs.filter(({ job }) => job === '');
  const running = procs.filter(({ state }) => state === 'running').length;
  const parts = [`mesh ${running}/${procs.length}`];
  if (!session.connected) {
    parts.push('not connected');
  } else if (session.state !== null && session.state.mesh !== 'running') {
    parts.push(session.state.mesh);
  } else {
    parts.push(`${short(session.rate)} lines/s`);
  }
  if (session.errors > 0) {
    parts.push(`${short(session.errors)} ${session.errors === 1 ? 'error' : 'errors'}`);
  }
  return parts.join(' · ');
}

function short(count: number): string {
  const units: [number, string][] = [
    [1e6, 'M'],
    [1e3, 'k']
  ];
  for (const [size, unit] of units) {
    // 999.5 and more would read "1000" of the smaller unit.
    if (Math.round(count) >= size) {
      const value = count / size;
      return `${value < 9.95 ? value.toFixed(1) : Math.round(value)}${unit}`;
    }
  }
  return String(Math.round(count));
}
