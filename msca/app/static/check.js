// What this page cannot do without, said in a line; runs where the modules do not.
'use strict';
(function () {
  var say = function (text) { var p = document.getElementById('wrong'); p.textContent = text; p.hidden = false; document.body.className = 'stopped' }
  window.mscaStop = say
  if (location.protocol === 'file:') say('A page that is opened as a file may load nothing. Serve this folder instead: python -m http.server, then open the address that it prints.')
  else if (typeof WebAssembly !== 'object') say('This browser has no WebAssembly, with which the picture is computed. A current Firefox, Chrome, Edge or Safari has it; some block it in their strictest mode.')
  else if (typeof DecompressionStream !== 'function') say('This browser cannot unpack the model (DecompressionStream is missing). Firefox 113, Chrome 80, Edge 80, Safari 16.4 or later can.')
  else if (typeof Worker !== 'function' || typeof OffscreenCanvas !== 'function') say('This browser cannot compute beside the page (Worker and OffscreenCanvas are needed). Firefox 114, Chrome 80, Edge 80, Safari 16.4 or later can.')
})()
