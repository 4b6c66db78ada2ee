// The page: what is painted on the left goes to the worker, and the picture comes back on the right.
import {Drawing} from './drawing.js'
import {History, UNLABELLED, readColors, resized, shares} from './maps.js'

const $ = id => document.getElementById(id)
const about = await (await fetch('manifest.json', {cache: 'no-cache'})).json()
const worker = new Worker('worker.js', {type: 'module'}), open = new Map()
const side = Math.min(512, Math.max(32, Math.round((+new URLSearchParams(location.search).get('size') || about.size)/16)*16))  // short side of a sheet
const S = about.classes.length, palette = [...about.classes.map((name, i) => [name, about.palette[i], i]), ['unlabelled', '#000000', UNLABELLED]]
const state = {mode: 'one', picked: [0, 1], factor: .5, own: {}, photos: [], layouts: [], asked: 0}
const listed = names => new Intl.ListFormat('en').format(names)
const MB = n => (n/1e6).toFixed(1)

// ---- asking the worker ----

let number = 0
const ask = (what, told, transfer = []) => new Promise((resolve, reject) => {
  open.set(++number, [resolve, reject])
  worker.postMessage({id: number, [what]: told}, transfer)
})
worker.onmessage = ({data}) => {
  if (data.progress) return loading(data.progress)
  const [resolve, reject] = open.get(data.id)
  open.delete(data.id)
  if ('wrong' in data) reject(new Error(data.wrong))
  else resolve(data.done)
}
worker.onerror = e => stop(new Error(e.message || 'the worker of this page cannot be started; modules in workers are needed (Firefox 114, Chrome 80, Safari 15 or later)'))

const plain = e => /memory|allocation|OOM/i.test(e.message) ? 'There is too little memory in this browser; close other tabs and load the page again.' : e.message
function stop(e) { window.mscaStop(plain(e)) }
function complain(e) { $('wrong').textContent = plain(e); $('wrong').hidden = false }
function relieve() { $('wrong').hidden = true }
const say = text => { $('status').textContent = text }

const got = {}
function loading({name, got: n, of}) {
  got[name] = [n, of]
  if (name === 'parsing') return say('Reading what is where in the photo')
  if (name === 'encoding') return say('Taking the style of the photo')
  const [here, all] = Object.entries(got).filter(([k]) => about.files[k]).reduce(([a, b], [, [x, y]]) => [a+x, b+y], [0, 0])
  if (state.ready) return say(n < of ? `Loading ${name}: ${MB(n)} of ${MB(of)} MB` : '')
  $('bar').value = here/Math.max(all, about.first)
  $('loading-text').textContent = here < all ? `Loading the painter: ${MB(here)} of ${MB(Math.max(all, about.first))} MB` : 'Starting the painter'
}

// ---- the drawing ----

const history = new History({ids: new Uint8Array(side*side).fill(UNLABELLED), size: [side, side]})
const drawing = new Drawing($('drawing'), {palette, act: told => { history.apply(told); changed(told.number) }, choose: id => drawing.mark(id)})

function changed(done) {
  drawing.show(history.map.ids, history.map.size, done)
  const [undo, redo] = history.steps
  $('undo').disabled = !undo; $('redo').disabled = !redo
  if (state.mode === 'classes') showClasses()
  showAbsent()
  repaint()
}

function setWidth(n) { drawing.width = n; $('width').value = n }
function setTool(tool) {
  drawing.tool = tool
  for (const b of document.querySelectorAll('[data-tool]')) b.setAttribute('aria-pressed', b.dataset.tool === tool)
}
for (const b of document.querySelectorAll('[data-tool]')) b.onclick = () => setTool(b.dataset.tool)
$('width').max = side/2
$('width').oninput = () => setWidth(+$('width').value)
$('undo').onclick = () => { history.undo(); changed() }
$('redo').onclick = () => { history.redo(); changed() }
$('clear').onclick = () => { const {size} = history.map; history.put({ids: new Uint8Array(size[0]*size[1]).fill(UNLABELLED), size}); changed() }
document.addEventListener('keydown', e => {
  if (e.target.matches('input:not([type=range]), select') || e.altKey) return
  const key = e.key.toLowerCase()
  if ((e.ctrlKey || e.metaKey) && (key === 'z' || key === 'y')) { e.preventDefault(); $(key === 'y' || e.shiftKey ? 'redo' : 'undo').click() }
  if (e.ctrlKey || e.metaKey) return
  if (key === 'b') setTool('brush')
  if (key === 'g') setTool('fill')
  if (key === '[' || key === ']') setWidth(Math.max(2, Math.min(side/2, Math.round(drawing.width*(key === '[' ? .8 : 1.25)))))
})

// ---- the picture ----

// Who uses which style: photos of weight, and for every class (the last one is unlabelled) its recipe.
function recipes() {
  const {mode, picked: [a, b], factor, own} = state, everywhere = new Float32Array(S+1).fill(1)
  if (mode === 'one') return {photos: [a], weights: [1], classes: everywhere, recipes: 1}
  if (mode === 'two') return {photos: [a, b], weights: [1-factor, factor], classes: everywhere, recipes: 1}
  const present = Object.keys(shares(history.map)), photos = [...new Set([a, ...present.map(id => own[id] ?? a)])], n = photos.length
  const weights = new Array(n*n).fill(0), classes = new Float32Array(n*(S+1))
  photos.forEach((_, i) => { weights[i*n+i] = 1 })
  for (let id = 0; id <= S; id++) classes[Math.max(0, photos.indexOf(own[id === S ? UNLABELLED : id] ?? a))*(S+1)+id] = 1
  return {photos, weights, classes, recipes: n}
}

function request(map) {
  const {photos, weights, classes, recipes: n} = recipes(), styles = new Float32Array(photos.length*about.styleLength)
  photos.forEach((k, i) => styles.set(state.photos[k].style, i*about.styleLength))
  return {ids: map.ids, size: map.size, styles, weights: Float32Array.from(weights), classes, recipes: n}
}

// The newest wish counts: while one picture is computed, at most one waits. While the hand moves, a smaller picture is enough where a whole one takes long.
// A press alone waits a moment: it may be a dab, whose whole picture then comes at once.
let busy = false, wanted = false, seconds = 0, moving = false, pressed = 0
function repaint() {
  wanted = true; document.documentElement.dataset.asked = ++state.asked
  if (moving && performance.now() < pressed+PRESS) setTimeout(work, PRESS)
  else work()
}
const PRESS = 60  // milliseconds
async function work() {
  if (busy || !wanted || !state.ready) return
  busy = true
  while (wanted) {
    wanted = false
    const {map} = history, short = Math.min(...map.size), draft = moving && seconds > .3 && short > 128
    if (map.ids.every(id => id === UNLABELLED)) { say('The layout is empty: choose a class and paint.'); continue }
    try {
      const now = draft ? resized(map, map.size.map(n => Math.max(16, Math.round(n*128/short/16)*16))) : map
      const asked = state.asked, made = await ask('paint', request(now))
      if (!draft) seconds = made.seconds
      show(made, map.size)
      state.shown = draft ? 0 : asked
      if (draft) wanted ||= !moving
      else say(`${made.size[1]} × ${made.size[0]} pixels in ${made.seconds.toFixed(2)} s`)
      document.documentElement.dataset.shown = state.shown
    } catch (e) { complain(e) }
  }
  busy = false
}
$('drawing').addEventListener('pointerdown', () => { moving = true; pressed = performance.now() }, true)
for (const kind of ['pointerup', 'pointercancel']) addEventListener(kind, () => { if (moving) { moving = false; if (state.shown !== state.asked) { wanted = true; work() } } })

const canvas = $('picture')
function show({pixels, size: [h, w]}, [H, W]) {
  const image = new ImageData(pixels, w, h)
  state.picture = [h, w].join() === [H, W].join() ? image : null
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h }
  canvas.style.aspectRatio = `${W} / ${H}`
  canvas.getContext('2d').putImageData(image, 0, 0)
  const names = recipes().photos.map(k => state.photos[k].name)
  canvas.setAttribute('aria-label', `what is painted, in the style of ${listed(names)}`)
  $('save-picture').disabled = !state.picture
}

// ---- photos and layouts ----

function card(text, picture, press) {
  const b = document.createElement('button'), label = document.createElement('span')
  b.type = 'button'; b.className = 'card'; label.textContent = text; b.title = text
  b.append(picture, label); b.onclick = press
  return b
}

function image(source, words) { const im = new Image(); im.src = source; im.alt = words; return im }

function painted({ids, size: [h, w]}) {
  const c = document.createElement('canvas'), im = new ImageData(w, h), pixels = new Uint32Array(im.data.buffer)
  ids.forEach((id, i) => { pixels[i] = drawing.rgba[id] })
  c.width = w; c.height = h; c.getContext('2d').putImageData(im, 0, 0)
  return c
}

function addPhoto(photo, source, words) {
  const k = state.photos.push({...photo, shown: shares(photo)})-1
  const b = card(photo.name, image(source, words ?? 'photo'), () => pick(k))
  $('photos').insertBefore(b, document.querySelector('#photos .add'))
  state.photos[k].card = b
  return k
}

function pick(k) {
  state.picked = state.mode === 'two' && k !== state.picked[1] ? [state.picked[1], k] : [k, state.picked[0] === k ? state.picked[1] : state.picked[0]]
  chosen()
}

function chosen() {
  const two = state.mode === 'two'
  state.photos.forEach(({card}, k) => {
    const at = state.picked.slice(0, two ? 2 : 1).indexOf(k)
    card.setAttribute('aria-pressed', at >= 0)
    card.querySelector('.letter')?.remove()
    if (two && at >= 0) card.append(Object.assign(document.createElement('span'), {className: 'letter', textContent: 'AB'[at]}))
  })
  $('mix').hidden = !two; $('by-class').hidden = state.mode !== 'classes'
  const [a, b] = state.picked.map(k => state.photos[k].name)
  $('mix-a').textContent = a; $('mix-b').textContent = b
  if (state.mode === 'classes') showClasses()
  showAbsent()
  repaint()
}

for (const b of document.querySelectorAll('[data-mode]')) b.onclick = () => {
  state.mode = b.dataset.mode
  for (const x of document.querySelectorAll('[data-mode]')) x.setAttribute('aria-pressed', x === b)
  chosen()
}
$('factor').oninput = () => { state.factor = +$('factor').value; repaint() }

// One choice for each class that is painted.
function showClasses() {
  const present = palette.filter(([, , id]) => shares(history.map)[id]), kept = new Map([...$('by-class').children].map(l => [l.dataset.id, l]))
  $('by-class').replaceChildren(...present.map(([name, color, id]) => {
    const old = kept.get(String(id)), label = old ?? document.createElement('label'), select = old?.querySelector('select') ?? document.createElement('select')
    if (!old) {
      const swatch = document.createElement('i')
      swatch.style.background = color; label.dataset.id = id; label.append(swatch, name, select)
      select.onchange = () => { if (select.value === '') delete state.own[id]; else state.own[id] = +select.value; showAbsent(); repaint() }
    }
    const first = `as picked: ${state.photos[state.picked[0]].name}`
    select.replaceChildren(new Option(first, ''), ...state.photos.map((p, k) => new Option(p.shown[id] > .002 ? p.name : `${p.name} (shows none)`, k)))
    select.value = state.own[id] ?? ''
    return label
  }))
}

function showAbsent() {
  const {photos} = recipes(), here = shares(history.map)
  const none = about.classes.filter((_, id) => here[id] > .005 && !(photos.some(k => state.photos[k].shown[id] > .002)))
  $('absent').textContent = none.length ? `No ${new Intl.ListFormat('en', {type: 'disjunction'}).format(none)} in the photo; the painter makes ${none.length > 1 ? 'them' : 'it'} up from the rest.` : ''
}

const bare = name => (name || 'photo').replace(/\.[^.]*$/, '').slice(0, 24) || 'photo'

async function readPhoto(file) {
  relieve()
  const waiting = card(bare(file.name), image(URL.createObjectURL(file), 'photo that is read'), () => {})
  waiting.setAttribute('aria-busy', true)
  $('photos').insertBefore(waiting, document.querySelector('#photos .add'))
  try {
    const photo = await ask('photo', file)
    const name = bare(file.name), rgba = new Uint8ClampedArray(photo.ids.length*4).fill(255)
    for (let i = 0; i < photo.ids.length; i++) for (let c = 0; c < 3; c++) rgba[4*i+c] = photo.photo[3*i+c]
    const c = document.createElement('canvas')
    c.width = photo.size[1]; c.height = photo.size[0]
    c.getContext('2d').putImageData(new ImageData(rgba, c.width, c.height), 0, 0)
    const k = addPhoto({name, ...photo}, c.toDataURL(), 'photo of yours')
    addLayout({name: `of ${name}`, ids: photo.ids, size: photo.size})
    say('')
    pick(k)
  } catch (e) { say(''); complain(e) }
  waiting.remove()
}

const sheet = ({ids, size}) => resized({ids, size}, size.map(n => Math.max(16, Math.floor((Math.round(n*side/Math.min(...size))+8)/16)*16)))

function addLayout(layout) {
  state.layouts.push(layout)
  $('layouts').append(card(layout.name, painted(layout), () => { history.put(sheet(layout)); changed() }))
}

async function readMap(file) {
  relieve()
  try {
    const {data, size} = await ask('map', file), {map, snapped} = readColors(data, size, palette)
    history.put(sheet(map)); changed()
    if (snapped) say(`${snapped} pixels of smoothed edges snapped to a class beside them`)
  } catch (e) { complain(new Error(`${file.name}: ${e.message}`)) }
}

const taken = (input, read) => { $(input).onchange = async e => { for (const file of [...e.target.files]) await read(file); e.target.value = '' } }
taken('open-photo', readPhoto)
taken('open-map', readMap)
addEventListener('dragover', e => { if ([...e.dataTransfer.types].includes('Files')) { e.preventDefault(); $('drop').hidden = false } })
addEventListener('dragleave', e => { if (!e.relatedTarget) $('drop').hidden = true })
addEventListener('drop', async e => {
  e.preventDefault(); $('drop').hidden = true
  const on = drawing.sheet.contains(e.target), files = [...e.dataTransfer.files]
  for (const file of files) await (on ? readMap : readPhoto)(file)
})
addEventListener('paste', async e => { for (const file of [...e.clipboardData.files].filter(f => f.type.startsWith('image/'))) await readPhoto(file) })

function save(name, source) {
  source.toBlob(blob => {
    const a = document.createElement('a')
    a.href = URL.createObjectURL(blob); a.download = name; a.click()
    setTimeout(() => URL.revokeObjectURL(a.href), 1000)
  })
}
$('save-picture').onclick = () => save('picture.png', canvas)
$('save-map').onclick = () => save('layout.png', painted(history.map))

// ---- the beginning ----

async function begin() {
  const threads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 4) : 1
  document.documentElement.dataset.threads = threads
  ask('start', {base: new URL('.', location.href).href, files: about.files, size: about.size, parserSides: about.parserSides, threads})
  const painter = ask('load', ['paint']), buffer = await ask('examples')
  const {styles, exemplars, layouts} = about.examples
  exemplars.forEach(({name, shows, size, at, style, file}) => addPhoto({name, size, ids: new Uint8Array(buffer, at, size[0]*size[1]),
    style: new Float32Array(buffer, styles+4*style*about.styleLength, about.styleLength)}, file, shows))
  layouts.forEach(({name, size, at}) => addLayout({name, size, ids: new Uint8Array(buffer, at, size[0]*size[1])}))
  if (!about.parserSides) document.querySelector('#photos .add').hidden = true
  history.map = sheet(state.layouts[0])
  setWidth(Math.round(side*.1)); setTool('brush'); drawing.mark(0)
  chosen(); changed()
  await painter
  state.ready = true
  await work()
  $('loading').hidden = true
  document.documentElement.dataset.ready = Math.round(performance.now())
}

$('about').textContent = about.about
$('credits').textContent = `Photos: ${about.examples.exemplars.filter(e => e.credit).map(e => `${e.name} by ${e.credit}`).join(', ')}. Runtime: onnxruntime-web ${about.runtime}, MIT licence.`
if (!document.body.classList.contains('stopped')) begin().catch(stop)
if ('serviceWorker' in navigator && !globalThis.crossOriginIsolated && isSecureContext && self === top) navigator.serviceWorker.register('isolate.js').catch(() => {})
