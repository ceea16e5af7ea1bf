import { describe, expect, it } from 'vitest';
import { levelOf, levelSlot, levelsOf } from '../../src/core/levels';

/** Lines and levels that the kernel's `tests/unit/test_levels.py` has as well. */
const EXAMPLES: readonly (readonly [string, number])[] = [
  ['DEBUG:root:x', 10],
  ['INFO:root:x', 20],
  ['WARNING:root:disk is full', 30],
  ['ERROR:train:x', 40],
  ['CRITICAL:root:x', 50],
  ['WARNING: x', 30],
  ['[WARNING] x', 30],
  ['[ERROR   ] x', 40],
  ['2026-01-01 12:00:00,123 - train - ERROR - x', 40],
  ['2026-01-01 12:00:00,123 INFO x', 20],
  ['2026-01-01 12:00:00,123 my.module WARNING x', 30],
  ['[2026-01-01 12:00:00,123] [WARNING] [real_accelerator.py:162:get] x', 30],
  ['[12/31/25 23:59:59] INFO     server started', 20],
  ['2026-01-01 12:00:00.123 | SUCCESS  | x', 0],
  ['2026-01-01 12:00:00.123 | WARNING  | __main__:f:3 - x', 30],
  ['(pid=12) ERROR x', 40],
  ['<ERROR> x', 40],
  ['INFO', 20],
  ['/usr/lib/x.py:12: UserWarning: x', 30],
  ['DeprecationWarning: x', 30],
  ['<stdin>:1: torch.jit.TracerWarning: x', 30],
  ['Traceback (most recent call last):', 40],
  ['[rank0]: Traceback (most recent call last):', 40],
  ['ValueError: ERROR in INFO', 40],
  ['[rank3]: RuntimeError: x', 40],
  ['torch.cuda.OutOfMemoryError: CUDA out of memory', 40],
  ['subprocess.CalledProcessError: x', 40],
  ['AssertionError', 40],
  ['KeyboardInterrupt', 40],
  ['Fatal Python error: Segmentation fault', 50],
  ['I0423 12:00:00.123456 1 x.cc:1] x', 20],
  ['W0423 12:00:00.123456 1 x.cc:1] x', 30],
  ['E1023 12:00:00.123456 1 x.cc:1] x', 40],
  ['F1023 12:00:00.123456 1 x.cc:1] x', 50],
  ['[rank0]:[W1023 12:00:00.123 ProcessGroupNCCL.cpp:1] Warning: x', 30],
  ['2026-01-01 12:00:00.123456: W tensorflow/x.cc:1] x', 30],
  ['node1:12:34 [0] NCCL INFO Bootstrap', 20],
  ['node1:12:34 [0] init.cc:1 NCCL WARN Cuda failure', 30],
  ['time="2026-01-01T00:00:00Z" level=error msg="x"', 40],
  ['ts=1 level="warn" msg=x', 30],
  ['{"level":"error","msg":"x"}', 40],
  ['{"time": 1, "levelname": "INFO", "message": "an ERROR: x"}', 20],
  ['2026-01-01T00:00:00.000Z  WARN crate::module: x', 30],
  ['[2026-01-01T00:00:00Z ERROR crate] x', 40],
  ['12:00:00.123 [main] WARN  c.e.App - x', 30],
  ['\x1b[2m2026-01-01T00:00:00Z\x1b[0m \x1b[33m WARN\x1b[0m \x1b[2mx\x1b[0m: y', 30],
  ['error: x', 40],
  ['error[E0308]: mismatched types', 40],
  ['warning: unused variable', 30],
  ['fatal error: x.h: No such file', 50],
  ['a.c:1:2: fatal error: x.h: No such file', 50],
  ['a.c:1:2: warning: x', 30],
  ['bash: error: x', 40],
  ['fatal: not a git repository', 50],
  ['', 0],
  ['hello', 0],
  ['step 12 loss 0.5', 0],
  ['no error found', 0],
  ['the ERROR budget is 5', 0],
  ['0 errors, 0 warnings', 0],
  ['error rate 0.5', 0],
  ['errors: 0', 0],
  ['INFORMATION: x', 0],
  ['loss_level=3', 0],
  ['I0423', 0],
  ['W0423 is a name', 0],
  ['x'.repeat(300) + ' ERROR: too far away', 0],
];

describe('the level of a line', () => {
  it.each(EXAMPLES)('%j is %i', (line, level) => {
    expect(levelOf(line)).toBe(level);
  });

  it('counts the first 256 bytes, not characters', () => {
    expect(levelOf(`${'x'.repeat(244)} ERROR: x`)).toBe(40);
    expect(levelOf(`${'\u20ac'.repeat(81)} ERROR: x`)).toBe(40);
    expect(levelOf(`${'\u20ac'.repeat(85)} ERROR: x`)).toBe(0);
  });

  it('is the same in bulk', () => {
    const lines = [...EXAMPLES, ...EXAMPLES].map(([line]) => line);
    const text = lines.map(line => `${line}\n`).join('');
    const offsets = new Uint32Array(lines.length + 1);
    lines.forEach((line, index) => {
      offsets[index + 1] = (offsets[index] as number) + line.length + 1;
    });
    const levels = new Uint8Array(lines.length);
    levelsOf(text, offsets, 0, lines.length, levels);
    expect([...levels]).toEqual(lines.map(levelOf));
    levels.fill(0);
    levelsOf(text, offsets, 7, lines.length, levels);
    expect([...levels.subarray(7)]).toEqual(lines.slice(7).map(levelOf));
  });

  it('costs little for a plain line', () => {
    const line = 'step 1234: loss 0.4321, lr 3e-05, 1234 tokens per second on this rank, and so on';
    const lines = 20_000;
    const text = `${line}\n`.repeat(lines);
    const offsets = Uint32Array.from({ length: lines + 1 }, (_, at) => at * (line.length + 1));
    const levels = new Uint8Array(lines);
    const started = performance.now();
    levelsOf(text, offsets, 0, lines, levels);
    expect((performance.now() - started) / lines).toBeLessThan(0.005); // ms
  });

  it.each([' ', 'a.', 'A', '[', ': ', ' 0', 'error', 'W0000 '])(
    'is found in bounded time in many %j',
    unit => {
      const line = unit.repeat(1_000_000);
      const started = performance.now();
      levelOf(line);
      expect(performance.now() - started).toBeLessThan(500);
    }
  );
});

describe('the slot of a level', () => {
  it.each([
    [0, 0], [5, 1], [10, 1], [15, 1], [20, 2], [30, 3], [40, 4], [45, 4], [50, 5], [99, 5]
  ])('%i is %i', (level, slot) => {
    expect(levelSlot(level)).toBe(slot);
  });
});
