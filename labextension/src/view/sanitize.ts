/** Log text made safe to show. */
export { inert, splitSgr, toText } from '../core/sanitize';
