import eslint from '@eslint/js';
import tseslint from 'typescript-eslint';

/** Whatever would parse text as markup: log lines become text nodes and nothing else. */
const markup = ['innerHTML', 'outerHTML', 'insertAdjacentHTML', 'createContextualFragment'];

export default tseslint.config(
  { ignores: ['build/', 'lib/', 'node_modules/'] },
  eslint.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-eval': 'error',
      'no-restricted-properties': [
        'error',
        ...markup.map(property => ({ property, message: 'Make text nodes.' }))
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      // Numbers read well in texts.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // `() => send()` is how listeners are written.
      '@typescript-eslint/no-confusing-void-expression': 'off',
      // An index that was just checked needs no second check.
      '@typescript-eslint/no-non-null-assertion': 'off',
      // Maps of events: one without a value has `void`.
      '@typescript-eslint/no-invalid-void-type': 'off',
      '@typescript-eslint/no-dynamic-delete': 'off',
      // The DOM's types promise what is not always there.
      '@typescript-eslint/no-unnecessary-condition': 'off',
      // What logs are full of.
      'no-control-regex': 'off'
    }
  },
  {
    files: ['src/lab/**/*.ts'],
    // Lumino's signals take a method and its object apart.
    rules: { '@typescript-eslint/unbound-method': 'off' }
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      '@typescript-eslint/restrict-plus-operands': 'off',
      '@typescript-eslint/no-unnecessary-type-parameters': 'off'
    }
  },
  {
    files: ['scripts/**/*.mjs'],
    languageOptions: { globals: { process: 'readonly', URL: 'readonly', console: 'readonly' } }
  }
);
