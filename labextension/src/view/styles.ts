/** The view's stylesheet: colours come from JupyterLab's variables, then VS Code's, then from here. */

const STYLES = `
.lm-root {
  --lm-paper: var(--jp-layout-color0, var(--vscode-editor-background, #ffffff));
  --lm-raised: var(--jp-layout-color1, var(--vscode-editorWidget-background, #f7f7f8));
  --lm-ink: var(--jp-content-font-color1, var(--vscode-editor-foreground, #1f2328));
  --lm-soft: var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #5b6470));
  --lm-line: var(--jp-border-color2, var(--vscode-panel-border, #d9dce1));
  --lm-accent: var(--jp-brand-color1, var(--vscode-focusBorder, #0b63c5));
  --lm-choice: rgba(33, 118, 210, 0.18);
  --lm-hover: rgba(110, 120, 140, 0.1);
  --lm-good: #1a7f37;
  --lm-warn: #b26a00;
  --lm-warn-text: #8a5200;
  --lm-error: #cf222e;
  --lm-error-text: #b8141f;
  --lm-critical: #a3159f;
  --lm-warn-tint: rgba(255, 190, 60, 0.13);
  --lm-error-tint: rgba(235, 60, 70, 0.09);
  --lm-bar: #8fa6bf;
  --lm-bar-debug: #c3ccd6;
  --lm-mark: #ffe08a;
  --lm-slot: #8aa3c4;
  --lm-slot-text: #1d4f91;
  --lm-slot-tint: rgba(33, 118, 210, 0.1);
  --lm-black: var(--logmesh-ansi-black, #24292f);
  --lm-red: var(--logmesh-ansi-red, #b8141f);
  --lm-green: var(--logmesh-ansi-green, #12692c);
  --lm-yellow: var(--logmesh-ansi-yellow, #7a5200);
  --lm-blue: var(--logmesh-ansi-blue, #0a58b8);
  --lm-magenta: var(--logmesh-ansi-magenta, #8f2b9e);
  --lm-cyan: var(--logmesh-ansi-cyan, #0b6772);
  --lm-white: var(--logmesh-ansi-white, #5f6670);
  --lm-bright-black: var(--logmesh-ansi-bright-black, #57606a);
  --lm-bright-red: var(--logmesh-ansi-bright-red, #c81e2b);
  --lm-bright-green: var(--logmesh-ansi-bright-green, #1a7232);
  --lm-bright-yellow: var(--logmesh-ansi-bright-yellow, #855a00);
  --lm-bright-blue: var(--logmesh-ansi-bright-blue, #0f66cf);
  --lm-bright-magenta: var(--logmesh-ansi-bright-magenta, #a033b0);
  --lm-bright-cyan: var(--logmesh-ansi-bright-cyan, #0a6f7c);
  --lm-bright-white: var(--logmesh-ansi-bright-white, #4a515b);
  position: relative;
  display: flex;
  flex-direction: column;
  min-width: 0;
  box-sizing: border-box;
  background: var(--lm-paper);
  color: var(--lm-ink);
  font-family: var(--jp-ui-font-family, var(--vscode-font-family, system-ui, sans-serif));
  font-size: var(--jp-ui-font-size1, 13px);
  line-height: 1.4;
}
.lm-root.lm-dark {
  --lm-paper: var(--jp-layout-color0, var(--vscode-editor-background, #111318));
  --lm-raised: var(--jp-layout-color1, var(--vscode-editorWidget-background, #1b1e25));
  --lm-ink: var(--jp-content-font-color1, var(--vscode-editor-foreground, #e3e6ea));
  --lm-soft: var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #9aa4b2));
  --lm-line: var(--jp-border-color2, var(--vscode-panel-border, #353a44));
  --lm-accent: var(--jp-brand-color1, var(--vscode-focusBorder, #58a6ff));
  --lm-choice: rgba(88, 166, 255, 0.25);
  --lm-hover: rgba(160, 175, 200, 0.12);
  --lm-good: #4cc26b;
  --lm-warn: #d9a13b;
  --lm-warn-text: #e8b75a;
  --lm-error: #f2555f;
  --lm-error-text: #ff8a8f;
  --lm-critical: #e07be0;
  --lm-warn-tint: rgba(230, 170, 50, 0.1);
  --lm-error-tint: rgba(245, 80, 90, 0.13);
  --lm-bar: #5d7793;
  --lm-bar-debug: #3f4d5d;
  --lm-mark: #7a5c00;
  --lm-slot: #58708f;
  --lm-slot-text: #a9cdfb;
  --lm-slot-tint: rgba(88, 166, 255, 0.16);
  --lm-black: var(--logmesh-ansi-black, #8b95a3);
  --lm-red: var(--logmesh-ansi-red, #ff7b80);
  --lm-green: var(--logmesh-ansi-green, #56d17b);
  --lm-yellow: var(--logmesh-ansi-yellow, #e5b95c);
  --lm-blue: var(--logmesh-ansi-blue, #74b3ff);
  --lm-magenta: var(--logmesh-ansi-magenta, #dc96ef);
  --lm-cyan: var(--logmesh-ansi-cyan, #52cfe0);
  --lm-white: var(--logmesh-ansi-white, #d0d5dc);
  --lm-bright-black: var(--logmesh-ansi-bright-black, #9aa4b2);
  --lm-bright-red: var(--logmesh-ansi-bright-red, #ff9a9e);
  --lm-bright-green: var(--logmesh-ansi-bright-green, #7ee39c);
  --lm-bright-yellow: var(--logmesh-ansi-bright-yellow, #f2cf80);
  --lm-bright-blue: var(--logmesh-ansi-bright-blue, #9dcaff);
  --lm-bright-magenta: var(--logmesh-ansi-bright-magenta, #e9b5f7);
  --lm-bright-cyan: var(--logmesh-ansi-bright-cyan, #85e1ee);
  --lm-bright-white: var(--logmesh-ansi-bright-white, #ffffff);
}
.lm-root.lm-fill { height: 100%; }
.lm-root[hidden], .lm-root [hidden] { display: none !important; }
.lm-hidden {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
.lm-root :focus-visible { outline: 2px solid var(--lm-accent); outline-offset: -1px; }

.lm-bar {
  display: flex; flex-wrap: wrap; align-items: center; gap: 3px 8px;
  padding: 3px 4px; border-bottom: 1px solid var(--lm-line); background: var(--lm-raised);
  font-size: 12px;
}
.lm-tools { display: inline-flex; align-items: center; gap: 2px; min-width: 0; }
.lm-grow { flex: 1 1 400px; flex-wrap: wrap; justify-content: flex-end; gap: 3px 4px; }
.lm-button {
  display: inline-flex; align-items: center; justify-content: center; gap: 4px;
  min-width: 22px; height: 22px; padding: 0 4px; margin: 0;
  border: 1px solid transparent; border-radius: 3px; background: none;
  color: var(--lm-soft); font: inherit; line-height: 1; cursor: pointer; white-space: nowrap;
}
.lm-button:hover:not(:disabled) { background: var(--lm-hover); color: var(--lm-ink); }
.lm-button[aria-pressed='true'] { background: var(--lm-choice); color: var(--lm-ink); }
.lm-button:disabled { opacity: 0.45; cursor: default; }
.lm-icon { width: 14px; height: 14px; flex: none; fill: none; stroke: currentColor; stroke-width: 1.4; stroke-linecap: round; stroke-linejoin: round; }
.lm-select, .lm-number, .lm-input, .lm-field {
  height: 22px; box-sizing: border-box; padding: 0 4px; margin: 0;
  border: 1px solid var(--lm-line); border-radius: 3px;
  background: var(--lm-paper); color: var(--lm-ink); font: inherit;
}
.lm-select { max-width: 130px; }
.lm-number { width: 40px; padding-right: 0; }
.lm-number:disabled, .lm-select:disabled { opacity: 0.6; }
.lm-input { width: 92px; }
.lm-unit { color: var(--lm-soft); }
.lm-check { display: inline-flex; align-items: center; gap: 3px; margin: 0; color: var(--lm-ink); cursor: pointer; }
.lm-check input { margin: 0; accent-color: var(--lm-accent); }
.lm-pending { border-style: dashed; border-color: var(--lm-accent); }
.lm-pending-note { color: var(--lm-warn-text); font-style: italic; }
.lm-pending-note:empty { display: none; }
.lm-search { flex: 1 1 160px; }
.lm-field { display: inline-flex; align-items: center; flex: 1; min-width: 130px; padding: 0 1px 0 4px; }
.lm-field:focus-within { border-color: var(--lm-accent); }
.lm-field .lm-button { height: 18px; min-width: 20px; padding: 0 2px; font-family: var(--jp-code-font-family, monospace); font-size: 11px; }
.lm-search-text {
  flex: 1; min-width: 40px; height: 20px; padding: 0; margin: 0; border: 0; outline: 0 !important;
  background: none; color: inherit; font: inherit; appearance: none;
}
.lm-search-text::placeholder, .lm-input::placeholder { color: var(--lm-soft); opacity: 1; }
.lm-search-text::-webkit-search-cancel-button { display: none; }
.lm-invalid { color: var(--lm-error-text) !important; border-color: var(--lm-error); }
.lm-count { padding: 0 4px; color: var(--lm-soft); font-variant-numeric: tabular-nums; white-space: nowrap; max-width: 180px; overflow: hidden; text-overflow: ellipsis; }
.lm-has-errors > .lm-letter, .lm-errors { color: var(--lm-error-text); font-weight: 600; }
.lm-popup { display: inline-flex; }
.lm-panel {
  position: fixed; inset: auto; z-index: 20; min-width: 190px; margin: 0; padding: 4px;
  display: flex; flex-direction: column; gap: 2px;
  border: 1px solid var(--lm-line); border-radius: 4px; background: var(--lm-paper); color: var(--lm-ink); font-size: 12px;
  box-shadow: 0 4px 14px rgba(0, 0, 0, 0.22);
}
.lm-panel .lm-choice { justify-content: flex-start; padding: 0 8px; color: var(--lm-ink); }
.lm-panel .lm-select { max-width: none; }
.lm-heading { padding: 4px 8px 2px; color: var(--lm-soft); font-size: 11px; }

.lm-procs { display: flex; flex-wrap: wrap; gap: 2px; padding: 3px 4px; max-height: 76px; overflow-y: auto; border-bottom: 1px solid var(--lm-line); }
.lm-proc {
  height: 17px; min-width: 19px; padding: 0 3px; margin: 0; border: 0; border-bottom: 2px solid var(--lm-good);
  border-radius: 2px 2px 0 0; background: var(--lm-hover); color: var(--lm-ink);
  font: 10.5px/15px var(--jp-code-font-family, var(--vscode-editor-font-family, monospace)); cursor: pointer; white-space: nowrap;
}
.lm-proc:hover { background: var(--lm-choice); }
.lm-proc.lm-quiet { border-bottom-style: dotted; }
.lm-proc-late { border-color: var(--lm-warn); color: var(--lm-warn-text); }
.lm-proc-done { border-color: var(--lm-soft); color: var(--lm-soft); }
.lm-proc-failed, .lm-proc-killed, .lm-proc-lost { border-color: var(--lm-error); color: var(--lm-error-text); background: var(--lm-error-tint); }
.lm-proc[aria-pressed='true'] { background: var(--lm-choice); box-shadow: inset 0 0 0 1px var(--lm-accent); }
.lm-some .lm-proc[aria-pressed='false'] { opacity: 0.6; }
.lm-dense { gap: 1px; }
.lm-dense .lm-proc { width: 11px; min-width: 0; height: 11px; padding: 0; border: 0; border-radius: 2px; background: var(--lm-good); color: var(--lm-paper); font-size: 9px; line-height: 11px; overflow: hidden; }
.lm-dense .lm-proc.lm-quiet { opacity: 0.5; }
.lm-dense .lm-proc-late { background: var(--lm-warn); }
.lm-dense .lm-proc-done { background: var(--lm-soft); }
.lm-dense .lm-proc-failed, .lm-dense .lm-proc-killed, .lm-dense .lm-proc-lost { background: var(--lm-error); }
.lm-tiny .lm-proc { width: 7px; height: 7px; font-size: 6px; line-height: 7px; border-radius: 1px; }

.lm-histogram { position: relative; flex: none; height: 38px; padding: 0; border-bottom: 1px solid var(--lm-line); cursor: crosshair; touch-action: none; }
.lm-histogram canvas { display: block; width: 100%; height: 36px; margin-top: 1px; }
.lm-tip { position: absolute; top: 1px; right: 4px; padding: 0 4px; border-radius: 2px; background: var(--lm-paper); color: var(--lm-soft); font-size: 11px; font-variant-numeric: tabular-nums; pointer-events: none; }
.lm-tip:empty { display: none; }

.lm-main { position: relative; display: flex; flex: 1; min-height: 0; min-width: 0; flex-direction: column; }
.lm-list {
  flex: 1 1 auto; min-height: 0; overflow: auto; overflow-anchor: none; contain: layout paint style;
  font-family: var(--jp-code-font-family, var(--vscode-editor-font-family, ui-monospace, 'DejaVu Sans Mono', monospace));
  font-size: var(--jp-code-font-size, var(--vscode-editor-font-size, 13px));
  line-height: var(--lm-row, 18px);
  tab-size: 8;
}
.lm-list.lm-bounded { flex: none; resize: vertical; }
.lm-root.lm-few .lm-list.lm-bounded { resize: none; }
.lm-space { position: relative; min-width: 100%; }
.lm-rows { position: absolute; top: 0; left: 0; width: max-content; min-width: 100%; will-change: transform; }
.lm-wrapped .lm-rows { width: 100%; }
.lm-row {
  display: flex; min-height: var(--lm-row, 18px); box-sizing: border-box; padding-right: 8px;
  border-left: 3px solid transparent;
}
.lm-row:focus { outline: none; }
.lm-row:hover { background: var(--lm-hover); }
.lm-row.lm-chosen { background: var(--lm-choice); }
.lm-list:focus-within .lm-row.lm-current { box-shadow: inset 0 0 0 1px var(--lm-accent); }
.lm-letter { flex: none; width: 2ch; text-align: center; color: var(--lm-soft); user-select: none; font-weight: 600; font-size: 0.85em; }
.lm-time, .lm-cell, .lm-who { flex: none; color: var(--lm-soft); margin-right: 1ch; white-space: pre; user-select: none; }
.lm-time { font-variant-numeric: tabular-nums; }
.lm-cell { min-width: 2ch; text-align: right; opacity: 0.9; }
.lm-who { min-width: var(--lm-who, 3ch); max-width: 30ch; overflow: hidden; text-overflow: ellipsis; }
.lm-body { flex: 1 1 auto; min-width: 0; white-space: pre; }
.lm-wrapped .lm-body { white-space: pre-wrap; overflow-wrap: anywhere; }
.lm-level-1 > .lm-body { color: var(--lm-soft); }
.lm-row.lm-level-2 { border-left-color: var(--lm-line); }
.lm-row.lm-level-3 { border-left-color: var(--lm-warn); background: var(--lm-warn-tint); }
.lm-row.lm-level-4 { border-left-color: var(--lm-error); background: var(--lm-error-tint); }
.lm-row.lm-level-5 { border-left-color: var(--lm-critical); background: var(--lm-error-tint); }
.lm-row.lm-level-3:hover, .lm-row.lm-level-4:hover, .lm-row.lm-level-5:hover { background-image: linear-gradient(var(--lm-hover), var(--lm-hover)); }
.lm-row.lm-chosen.lm-row { background: var(--lm-choice); }
.lm-level-3 > .lm-letter { color: var(--lm-warn-text); }
.lm-level-4 > .lm-letter { color: var(--lm-error-text); }
.lm-level-5 > .lm-letter { color: var(--lm-critical); }
.lm-level-3 > .lm-who, .lm-level-4 > .lm-who, .lm-level-5 > .lm-who, .lm-level-3 > .lm-time, .lm-level-4 > .lm-time, .lm-level-5 > .lm-time { color: var(--lm-ink); }
.lm-live { border-left-color: var(--lm-accent); }
.lm-live > .lm-letter::before { content: '▸'; color: var(--lm-accent); animation: lm-pulse 1.6s ease-in-out infinite; }
@keyframes lm-pulse { 50% { opacity: 0.25; } }
.lm-title { font-weight: 600; color: var(--lm-error-text); }
.lm-times { display: inline-block; margin-right: 0.7ch; padding: 0 4px; border-radius: 7px; background: var(--lm-choice); font-size: 0.85em; line-height: 1.3; font-variant-numeric: tabular-nums; user-select: none; }
.lm-note { color: var(--lm-soft); font-style: italic; user-select: none; }
.lm-level-3 .lm-note, .lm-level-4 .lm-note, .lm-level-5 .lm-note { color: inherit; }
.lm-fold { width: 1.6ch; margin: 0 0.3ch 0 0; padding: 0; border: 0; background: none; color: var(--lm-soft); font: inherit; line-height: inherit; cursor: pointer; text-align: center; user-select: none; }
.lm-fold:hover { color: var(--lm-ink); }
.lm-link, .lm-file { margin: 0; padding: 0; border: 0; background: none; color: var(--lm-accent); font: inherit; line-height: inherit; cursor: pointer; text-decoration: underline; text-underline-offset: 2px; }
.lm-link { margin-left: 1.5ch; user-select: none; }
.lm-file { color: inherit; text-decoration-style: dotted; }
.lm-file:hover { color: var(--lm-accent); }
.lm-inner { margin: 1px 0 4px; padding-left: 1ch; border-left: 1px solid var(--lm-line); }
.lm-sub { display: flex; min-height: var(--lm-row, 18px); }
.lm-sub > :last-child { flex: 1 1 auto; min-width: 0; }
.lm-chips { display: flex; flex-wrap: wrap; gap: 2px; padding: 2px 0; }
.lm-link.lm-chip { margin: 0; padding: 0 5px; border-radius: 7px; background: var(--lm-hover); color: var(--lm-ink); font-size: 0.85em; line-height: 1.4; text-decoration: none; }
.lm-slot { padding: 0 0.35em; border: 1px solid var(--lm-slot); color: var(--lm-slot-text); font-size: 0.9em; font-variant-numeric: tabular-nums; white-space: nowrap; }
.lm-slot::before { content: attr(data-shown); }
.lm-sign { font-size: 0; line-height: 0; }
.lm-slot-number { border-radius: 0.75em; background: var(--lm-slot-tint); }
.lm-slot-text { border-style: dashed; border-radius: 0; font-style: italic; }
.lm-facts { color: var(--lm-soft); font-variant-numeric: tabular-nums; }
.lm-values { margin: 1px 0 3px; }
.lm-slots { display: inline-table; vertical-align: top; margin: 1px 3ch 3px 0; border-collapse: collapse; color: var(--lm-ink); font-size: 0.92em; line-height: 1.45; white-space: nowrap; }
.lm-slots th, .lm-slots td { padding: 0 1.2ch 0 0; border: 0; text-align: left; vertical-align: top; font-weight: normal; background: none; }
.lm-slots tr { background: none !important; }
.lm-slots thead th { border-bottom: 1px solid var(--lm-line); color: var(--lm-soft); font-size: 0.9em; }
.lm-slots tbody th { padding-right: 2ch; font-weight: 600; }
.lm-slots tbody th .lm-slot { margin-right: 0.6ch; font-weight: normal; }
.lm-slots .lm-figure { text-align: right; font-variant-numeric: tabular-nums; }
.lm-slots .lm-link { margin: 0; max-width: 48ch; overflow: hidden; text-overflow: ellipsis; vertical-align: bottom; text-decoration-style: dotted; user-select: text; }
.lm-slots td .lm-link { color: inherit; }
.lm-slots td .lm-link:hover { color: var(--lm-accent); }
.lm-link.lm-chip[aria-pressed='true'] { background: var(--lm-choice); box-shadow: inset 0 0 0 1px var(--lm-accent); }
.lm-skip { color: var(--lm-soft); background: repeating-linear-gradient(-45deg, transparent 0 5px, var(--lm-hover) 5px 6px); border-left-color: var(--lm-line); }
.lm-window { gap: 1ch; padding-left: 2ch; color: var(--lm-soft); font-size: 0.9em; box-shadow: inset 0 1px var(--lm-line); user-select: none; }
.lm-list mark { background: var(--lm-mark); color: inherit; border-radius: 2px; }
.lm-empty { padding: 3px 8px; color: var(--lm-soft); font-style: italic; }
.lm-jump {
  position: absolute; right: 18px; bottom: 8px; z-index: 5; padding: 3px 10px; border: 1px solid var(--lm-line); border-radius: 12px;
  background: var(--lm-raised); color: var(--lm-ink); font: 12px/1.4 var(--jp-ui-font-family, system-ui, sans-serif);
  box-shadow: 0 2px 8px rgba(0, 0, 0, 0.2); cursor: pointer;
}
.lm-jump:hover { border-color: var(--lm-accent); }

.lm-foot { display: flex; flex-wrap: wrap; align-items: center; gap: 0 12px; min-height: 24px; padding: 1px 4px 1px 6px; color: var(--lm-soft); font-size: 12px; }
.lm-fill .lm-foot, .lm-barred .lm-foot { border-top: 1px solid var(--lm-line); }
.lm-foot > span:empty { display: none; }
.lm-receipt { color: var(--lm-ink); }
.lm-tick { color: var(--lm-good); font-weight: 700; }
.lm-cross { color: var(--lm-error-text); font-weight: 700; }
.lm-trouble { color: var(--lm-warn-text); }
.lm-error-text { color: var(--lm-error-text); }
.lm-foot .lm-link { margin-left: 0; color: var(--lm-soft); }
.lm-foot .lm-link:hover { color: var(--lm-ink); }
.lm-foot-tools { margin-left: auto; display: inline-flex; gap: 2px; opacity: 0.55; transition: opacity 0.12s; }
.lm-root:hover .lm-foot-tools, .lm-root:focus-within .lm-foot-tools, .lm-barred .lm-foot-tools { opacity: 1; }

.lm-dialog { max-width: 420px; padding: 12px 18px; border: 1px solid var(--lm-line); border-radius: 6px; background: var(--lm-paper); color: var(--lm-ink); font-size: 13px; }
.lm-dialog::backdrop { background: rgba(0, 0, 0, 0.3); }
.lm-dialog h2 { margin: 0 0 8px; font-size: 15px; }
.lm-dialog dl { display: grid; grid-template-columns: auto 1fr; gap: 3px 16px; margin: 0 0 10px; }
.lm-dialog dt { font-family: var(--jp-code-font-family, monospace); font-size: 12px; }
.lm-dialog dd { margin: 0; color: var(--lm-soft); }
.lm-dialog .lm-button { border-color: var(--lm-line); color: var(--lm-ink); padding: 0 10px; }
@media (prefers-reduced-motion: reduce) {
  .lm-root *, .lm-root *::before { animation: none !important; transition: none !important; }
}
@media (forced-colors: active) {
  .lm-row.lm-current { outline: 2px solid Highlight; outline-offset: -2px; }
}
`;

const MARK = 'data-logmesh-styles';

/** Puts the stylesheet into the page, once. */
export function ensureStyles(): void {
  if (!document.head.querySelector(`style[${MARK}]`)) {
    const style = document.createElement('style');
    style.setAttribute(MARK, '');
    style.textContent = STYLES;
    document.head.append(style);
  }
}
