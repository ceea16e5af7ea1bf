/** Numbers, times and levels as people read them. Pure functions. */
const integers = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** `12403` as `12,403`. */
export function count(value: number): string {
  return integers.format(value);
}

const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0, useGrouping: 'min2' as unknown as boolean });

/** A number of a log as people write it, with so many digits that count: `12`, `1024`, `65,536`,
 * `0.00123`, `2.3148`, `1.5e-9`. Whole numbers keep all of their digits. */
export function quantity(value: number, digits = 6): string {
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e15 || size < 1e-4)) {
    return value.toExponential(digits - 1).replace(/\.?0*e\+?/, 'e');
  }
  if (Number.isInteger(value)) {
    return grouped.format(value);
  }
  return size < 10_000 ? String(Number(value.toPrecision(digits))) : grouped.format(value);
}

/** `1 line`, `12,403 lines`. */
export function lines(value: number): string {
  return value === 1 ? '1 line' : `${count(value)} lines`;
}

/** `3`, `940`, `1.2k`, `25k`, `1.4M`: for places that are narrow. */
export function short(value: number): string {
  if (value < 999.5) {
    return value > 0 && value < 9.95 && !Number.isInteger(value) ? value.toFixed(1) : value.toFixed(0);
  }
  const [scaled, unit] = value < 999_500 ? [value / 1e3, 'k'] : [value / 1e6, 'M'];
  return `${scaled < 9.95 ? scaled.toFixed(1) : scaled.toFixed(0)}${unit}`;
}

/** An age in seconds: `now`, `12 s`, `3 min`, `2 h`, `never`. */
export function age(seconds: number): string {
  if (!Number.isFinite(seconds)) {
    return 'never';
  }
  if (seconds < 1.5) {
    return 'now';
  }
  if (seconds < 100) {
    return `${seconds.toFixed(0)} s`;
  }
  return seconds < 6000 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(0)} h`;
}

function digits(value: number, width: number): string {
  return String(value).padStart(width, '0');
}

/** Wall seconds as the browser's local time of day, `10:00:03.120`. */
export function clock(wall: number, fraction = true): string {
  const date = new Date(wall * 1000);
  if (Number.isNaN(date.getTime())) {
    return '?';
  }
  const time = `${digits(date.getHours(), 2)}:${digits(date.getMinutes(), 2)}:${digits(date.getSeconds(), 2)}`;
  return fraction ? `${time}.${digits(date.getMilliseconds(), 3)}` : time;
}

/** Seconds since `base`, as `+0.000`, `+1:02.345` or `+1:00:02.3`. */
export function since(wall: number, base: number): string {
  const sign = wall < base ? '-' : '+';
  const seconds = Math.abs(wall - base);
  if (seconds < 60) {
    return sign + seconds.toFixed(3);
  }
  const whole = Math.floor(seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const rest = (seconds % 60).toFixed(hours ? 1 : 3).padStart(hours ? 4 : 6, '0');
  return hours ? `${sign}${hours}:${digits(minutes, 2)}:${rest}` : `${sign}${minutes}:${rest}`;
}

/** By the order of `LevelCounts`. */
export const LEVEL_NAMES = ['no level', 'DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'] as const;
export const LEVEL_LETTERS = ['', 'D', 'I', 'W', 'E', 'C'] as const;
