/**
 * Whether the page is dark: told by the view's own background as the browser computes it, so it holds in
 * JupyterLab, Notebook, VS Code and Colab alike.
 */

function luminance(colour: string): number | null {
  const match = /^rgba?\(([\d.]+),? ([\d.]+),? ([\d.]+)(?:[,/ ]+([\d.]+))?\)$/.exec(colour);
  if (!match || match[4] === '0') {
    return null;
  }
  return (0.2126 * Number(match[1]) + 0.7152 * Number(match[2]) + 0.0722 * Number(match[3])) / 255;
}

/** Keeps the class `lm-dark` of `node` true and calls `changed` when it flips. Gives the undo. */
export function followTheme(node: HTMLElement, changed: () => void): () => void {
  const update = (): void => {
    const value = node.isConnected ? luminance(getComputedStyle(node).backgroundColor) : null;
    const dark = value !== null && value < 0.5;
    if (node.isConnected && dark !== node.classList.contains('lm-dark')) {
      node.classList.toggle('lm-dark', dark);
      changed();
    }
  };
  const observer = new MutationObserver(() => {
    update();
    // The theme's stylesheet may come behind the attribute that announces it.
    setTimeout(update, 500);
  });
  const watched = { attributes: true, attributeFilter: ['class', 'style', 'theme', 'data-jp-theme-name', 'data-jp-theme-light'] };
  observer.observe(document.documentElement, watched);
  observer.observe(document.body, watched);
  const media = typeof matchMedia === 'undefined' ? null : matchMedia('(prefers-color-scheme: dark)');
  media?.addEventListener('change', update);
  const first = requestAnimationFrame(update);
  return () => {
    cancelAnimationFrame(first);
    observer.disconnect();
    media?.removeEventListener('change', update);
  };
}
