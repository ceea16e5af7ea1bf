"use strict";(self.rspackChunklogmesh_ipy=self.rspackChunklogmesh_ipy||[]).push([[392],{25(e,t,o){var r=o(26),n=o.n(r),a=o(27),s=(o.n(a))()(n());s.push([e.id,`/* The view brings its own styles; these are for what holds it. */

.jp-LogMesh-output {
  overflow: hidden;
}

.jp-LogMesh-panel {
  display: flex;
  flex-direction: column;
  color: var(--jp-ui-font-color1);
  background: var(--jp-layout-color1);
}

/* JupyterLab's own rule for what is in a side area begins with an id. */
#logmesh-panel.jp-LogMesh-panel.lm-Widget {
  min-width: 360px;
}

.jp-LogMesh-panel > .jp-LogMesh-view {
  flex: 1 1 0;
  min-height: 0;
}

.jp-LogMesh-empty {
  padding: 16px;
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size1);
  line-height: 1.5;
}

.jp-LogMesh-empty pre {
  padding: 8px;
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-code-font-size);
  background: var(--jp-layout-color2);
  user-select: all;
}

.jp-LogMesh-status {
  display: flex;
}

.jp-LogMesh-status > button {
  padding: 0 6px;
  font: inherit;
  color: inherit;
  background: none;
  border: 0;
  cursor: pointer;
}

.jp-LogMesh-status > button:hover {
  background: var(--jp-layout-color3);
}

.jp-LogMesh-status > button:focus-visible {
  outline: 1px solid var(--jp-brand-color1);
  outline-offset: -1px;
}

/* The text keeps its colour: red is hard to read on some themes. */
.jp-LogMesh-status.jp-mod-error > button {
  box-shadow: inset 0 -2px var(--jp-error-color1);
}
`,""]),o.d(t,{},{A:s})},27(e){e.exports=function(e){var t=[];return t.toString=function(){return this.map(function(t){var o="",r=void 0!==t[5];return t[4]&&(o+="@supports (".concat(t[4],") {")),t[2]&&(o+="@media ".concat(t[2]," {")),r&&(o+="@layer".concat(t[5].length>0?" ".concat(t[5]):""," {")),o+=e(t),r&&(o+="}"),t[2]&&(o+="}"),t[4]&&(o+="}"),o}).join("")},t.i=function(e,o,r,n,a){"string"==typeof e&&(e=[[null,e,void 0]]);var s={};if(r)for(var i=0;i<this.length;i++){var c=this[i][0];null!=c&&(s[c]=!0)}for(var p=0;p<e.length;p++){var u=[].concat(e[p]);r&&s[u[0]]||(void 0!==a&&(void 0===u[5]||(u[1]="@layer".concat(u[5].length>0?" ".concat(u[5]):""," {").concat(u[1],"}")),u[5]=a),o&&(u[2]&&(u[1]="@media ".concat(u[2]," {").concat(u[1],"}")),u[2]=o),n&&(u[4]?(u[1]="@supports (".concat(u[4],") {").concat(u[1],"}"),u[4]=n):u[4]="".concat(n)),t.push(u))}},t}},26(e){e.exports=function(e){return e[1]}},18(e,t,o){o.r(t);var r=o(19),n=o.n(r),a=o(20),s=o.n(a),i=o(21),c=o.n(i),p=o(22),u=o.n(p),l=o(23),d=o.n(l),f=o(24),h=o.n(f),v=o(25),m={};m.styleTagTransform=h(),m.setAttributes=u(),m.insert=c().bind(null,"head"),m.domAPI=s(),m.insertStyleElement=d(),n()(v.A,m);let g=v.A&&v.A.locals?v.A.locals:void 0;o.d(t,{},{default:g})},19(e){var t=[];function o(e){for(var o=-1,r=0;r<t.length;r++)if(t[r].identifier===e){o=r;break}return o}function r(e,r){for(var n={},a=[],s=0;s<e.length;s++){var i=e[s],c=r.base?i[0]+r.base:i[0],p=n[c]||0,u="".concat(c," ").concat(p);n[c]=p+1;var l=o(u),d={css:i[1],media:i[2],sourceMap:i[3],supports:i[4],layer:i[5]};if(-1!==l)t[l].references++,t[l].updater(d);else{var f=function(e,t){var o=t.domAPI(t);return o.update(e),function(t){t?(t.css!==e.css||t.media!==e.media||t.sourceMap!==e.sourceMap||t.supports!==e.supports||t.layer!==e.layer)&&o.update(e=t):o.remove()}}(d,r);r.byIndex=s,t.splice(s,0,{identifier:u,updater:f,references:1})}a.push(u)}return a}e.exports=function(e,n){var a=r(e=e||[],n=n||{});return function(e){e=e||[];for(var s=0;s<a.length;s++){var i=o(a[s]);t[i].references--}for(var c=r(e,n),p=0;p<a.length;p++){var u=o(a[p]);0===t[u].references&&(t[u].updater(),t.splice(u,1))}a=c}}},21(e){var t={};e.exports=function(e,o){var r=function(e){if(void 0===t[e]){var o=document.querySelector(e);if(window.HTMLIFrameElement&&o instanceof window.HTMLIFrameElement)try{o=o.contentDocument.head}catch(e){o=null}t[e]=o}return t[e]}(e);if(!r)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");r.appendChild(o)}},23(e){e.exports=function(e){var t=document.createElement("style");return e.setAttributes(t,e.attributes),e.insert(t,e.options),t}},22(e,t,o){e.exports=function(e){var t=o.nc;t&&e.setAttribute("nonce",t)}},20(e){e.exports=function(e){if("u"<typeof document)return{update:function(){},remove:function(){}};var t=e.insertStyleElement(e);return{update:function(o){var r,n,a;r="",o.supports&&(r+="@supports (".concat(o.supports,") {")),o.media&&(r+="@media ".concat(o.media," {")),(n=void 0!==o.layer)&&(r+="@layer".concat(o.layer.length>0?" ".concat(o.layer):""," {")),r+=o.css,n&&(r+="}"),o.media&&(r+="}"),o.supports&&(r+="}"),(a=o.sourceMap)&&"u">typeof btoa&&(r+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(a))))," */")),e.styleTagTransform(r,t,e.options)},remove:function(){var e;null===(e=t).parentNode||e.parentNode.removeChild(e)}}}},24(e){e.exports=function(e,t){if(t.styleSheet)t.styleSheet.cssText=e;else{for(;t.firstChild;)t.removeChild(t.firstChild);t.appendChild(document.createTextNode(e))}}}}]);