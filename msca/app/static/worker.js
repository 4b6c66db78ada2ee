// Where everything is computed, so that the page never freezes. It is asked by messages with an id, and answers every one of them:
//   {id, load: names}                 graphs, with the runtime before the first of them
//   {id, paint: {ids, size, styles, weights, classes, recipes}}   a picture
//   {id, photo: Blob}                 a photo's picture, labels and style
// Progress is told by {progress: {name, got, of}}.
import {bestLabels, forEncoder, forParser, readySize} from './photos.js'

let about, ort, runtime
const sessions = {}, MOST = 4096*4096  // pixels of a photo that is resampled here

const say = (name, got, of) => postMessage({progress: {name, got, of}})

// A file of the manifest, whole and unpacked; throws a line that names it where it is not what was written.
async function fetched(name) {
  const {bytes, sha256} = about.files[name]
  let answer
  try { answer = await fetch(new URL(`${name}?${sha256.slice(0, 8)}`, about.base)) } catch { throw new Error(`${name}: cannot be loaded; is the connection there?`) }
  if (!answer.ok) throw new Error(`${name}: is missing on the server (${answer.status})`)
  const parts = [], reader = answer.body.getReader()
  let got = 0
  for (;;) {
    const {done, value} = await reader.read()
    if (done) break
    parts.push(value); got += value.length
    say(name, Math.min(got, bytes), bytes)
  }
  let blob = new Blob(parts)
  const head = new Uint8Array(await blob.slice(0, 2).arrayBuffer()), packed = head[0] === 0x1f && head[1] === 0x8b  // a server may have unpacked it
  if (packed && got !== bytes) throw new Error(`${name}: is damaged, ${got} of ${bytes} bytes; copy the folder again`)
  let buffer
  try { buffer = await (packed ? new Response(blob.stream().pipeThrough(new DecompressionStream('gzip'))) : blob).arrayBuffer() }
  catch { throw new Error(`${name}: is damaged and cannot be unpacked; copy the folder again`) }
  if (crypto.subtle) {
    const hash = [...new Uint8Array(await crypto.subtle.digest('SHA-256', buffer))].map(b => b.toString(16).padStart(2, '0')).join('')
    if (hash !== sha256) throw new Error(`${name}: is not the file that belongs to this page; copy the folder again`)
  }
  return buffer
}

async function startRuntime() {
  const wasm = fetched('runtime/ort.wasm.gz')
  ort = await import(new URL('runtime/ort.mjs', about.base))
  ort.env.wasm.numThreads = about.threads
  ort.env.wasm.wasmBinary = await wasm
  ort.env.logLevel = 'error'
}

function session(name) {
  return sessions[name] ??= (async () => {
    const graph = fetched(`${name}.onnx.gz`)
    await (runtime ??= startRuntime())
    const options = {executionProviders: ['wasm'], graphOptimizationLevel: 'all'}
    return ort.InferenceSession.create(new Uint8Array(await graph), options)
  })().catch(e => { delete sessions[name]; throw e })
}

// One graph at a time: a session may not be entered twice.
let turn = Promise.resolve()
function run(name, feeds) {
  const mine = turn.then(async () => {
    const s = await session(name), out = await s.run(feeds), result = out[s.outputNames[0]]
    return {data: result.data, dims: result.dims}
  })
  turn = mine.catch(() => {})
  return mine
}

const bytes = (data, dims) => new ort.Tensor('uint8', data, dims)
const floats = (data, dims) => new ort.Tensor('float32', data, dims)

async function paint({ids, size, styles, weights, classes, recipes}) {
  await session('paint')
  const J = weights.length/recipes, feeds = {layout: bytes(ids, size), styles: floats(styles, [J, styles.length/J]),
    weights: floats(weights, [recipes, J]), classes: floats(classes, [recipes, classes.length/recipes])}
  const began = performance.now(), {data} = await run('paint', feeds)
  return {pixels: new Uint8ClampedArray(data), size, seconds: (performance.now()-began)/1000}
}

// The pixels of a file: turned as the camera says, in sRGB, on white.
async function pixelsOf(file) {
  let bitmap
  try { bitmap = await createImageBitmap(file) } catch { throw new Error(`${file.name || 'picture'}: is no picture that this browser can read`) }
  const scale = Math.min(1, Math.sqrt(MOST/(bitmap.width*bitmap.height))), [w, h] = [bitmap.width, bitmap.height].map(n => Math.max(1, Math.floor(n*scale)))
  if (Math.min(h, w) < 16 || Math.max(h, w) > 16*Math.min(h, w)) throw new Error(`${file.name || 'picture'}: is ${w}×${h} pixels; sides of at least 16 and no thin strip are needed`)
  const g = new OffscreenCanvas(w, h).getContext('2d', {willReadFrequently: true})
  g.fillStyle = 'white'; g.fillRect(0, 0, w, h); g.drawImage(bitmap, 0, 0, w, h)
  bitmap.close()
  return {data: g.getImageData(0, 0, w, h).data, size: [h, w]}
}

async function readPhoto(file) {
  const {data, size} = await pixelsOf(file), rgb = new Uint8Array(size[0]*size[1]*3)
  for (let i = 0, j = 0; i < data.length; i += 4) { rgb[j++] = data[i]; rgb[j++] = data[i+1]; rgb[j++] = data[i+2] }
  const ready = readySize(size, about.size), photo = forEncoder(rgb, size, ready), small = forParser(rgb, size, about.parserSides)
  await session('parser')
  say('parsing', 0, 1)
  const scores = await run('parser', {photo: bytes(small.pixels, [...small.size, 3])})
  const ids = bestLabels(scores.data, scores.dims, small.work, size, ready)
  await session('encode')
  say('encoding', 0, 1)
  const style = await run('encode', {photo: bytes(photo, [...ready, 3]), labels: bytes(ids, ready)})
  return {photo, ids, size: ready, style: new Float32Array(style.data)}
}

const does = {
  start: async told => { about = told },
  load: async names => { await Promise.all(names.map(session)) },
  examples: async () => fetched('examples.bin.gz'),
  paint, photo: readPhoto,
  map: async file => pixelsOf(file),
}

onmessage = async ({data: {id, ...asked}}) => {
  const [what] = Object.keys(asked)
  try { postMessage({id, done: await does[what](asked[what])}) }
  catch (e) { postMessage({id, wrong: e.message || String(e)}) }
}
