import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // Tests that need a document say so at their top: `// @vitest-environment jsdom`.
    environment: 'node',
    include: ['test/**/*.test.ts'],
    reporters: ['dot'],
    restoreMocks: true,
    testTimeout: 10_000
  }
});
