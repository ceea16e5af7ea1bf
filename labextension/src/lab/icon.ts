import { LabIcon } from '@jupyterlab/ui-components';

/** Lines of several procs that meet in one. */
export const logMeshIcon = new LabIcon({
  name: 'logmesh-ipy:mesh',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 16 16">
  <g class="jp-icon3" fill="#616161">
    <circle cx="2.75" cy="3" r="1.75"/><circle cx="2.75" cy="8" r="1.75"/><circle cx="2.75" cy="13" r="1.75"/>
    <path d="M4.5 2.4h3L10 7.4h5v1.2h-5l-2.5 5h-3v-1.2h2.3L8.7 8.6H4.5V7.4h4.2L6.8 3.6H4.5z"/>
  </g>
</svg>`
});
