// A service worker for hosts that cannot set headers: it adds the two that let a page use several threads. Nothing is cached.
addEventListener('install', () => skipWaiting())
addEventListener('activate', e => e.waitUntil(clients.claim()))
addEventListener('fetch', e => {
  if (new URL(e.request.url).origin !== location.origin) return
  e.respondWith(fetch(e.request).then(r => {
    if (!r.status) return r
    const headers = new Headers(r.headers)
    headers.set('Cross-Origin-Opener-Policy', 'same-origin')
    headers.set('Cross-Origin-Embedder-Policy', 'require-corp')
    headers.set('Cross-Origin-Resource-Policy', 'same-origin')
    return new Response(r.body, {status: r.status, statusText: r.statusText, headers})
  }))
})
