// Label maps: {ids: Uint8Array row by row, size: [height, width]}. Every function leaves the map that it is given as it is.

export const UNLABELLED = 255

// A map after a stroke: every pixel whose center is within half the brush's width of the path. A brush is never so thin that it misses all.
export function brushed({ids, size: [h, w]}, points, label, width) {
  const out = ids.slice(), r = Math.max(width, 1.5)/2
  for (let k = 0; k < Math.max(points.length-1, 1); k++) {
    const [ax, ay] = points[k], [bx, by] = points[Math.min(k+1, points.length-1)], dx = bx-ax, dy = by-ay, long = dx*dx+dy*dy || 1
    const top = Math.max(0, Math.floor(Math.min(ay, by)-r)), bottom = Math.min(h, Math.ceil(Math.max(ay, by)+r))
    const left = Math.max(0, Math.floor(Math.min(ax, bx)-r)), right = Math.min(w, Math.ceil(Math.max(ax, bx)+r))
    for (let i = top; i < bottom; i++) for (let j = left; j < right; j++) {
      const x = j+.5-ax, y = i+.5-ay, t = Math.min(Math.max((x*dx+y*dy)/long, 0), 1), u = x-t*dx, v = y-t*dy
      if (u*u+v*v <= r*r) out[i*w+j] = label
    }
  }
  return {ids: out, size: [h, w]}
}

// A map after a fill: all pixels of one label that are connected, by their sides, to the one that was clicked.
export function filled({ids, size: [h, w]}, row, col, label) {
  const out = ids.slice(), old = ids[row*w+col], todo = [row*w+col]
  if (old === label) return {ids: out, size: [h, w]}
  out[todo[0]] = label
  const visit = i => { if (out[i] === old) { out[i] = label; todo.push(i) } }
  while (todo.length) {
    const i = todo.pop(), j = i % w
    if (j > 0) visit(i-1)
    if (j < w-1) visit(i+1)
    if (i >= w) visit(i-w)
    if (i < (h-1)*w) visit(i+w)
  }
  return {ids: out, size: [h, w]}
}

// A map of another size: the nearest pixel's label.
export function resized({ids, size: [h, w]}, [H, W]) {
  const out = new Uint8Array(H*W), at = (k, old, now) => Math.floor((2*k+1)*old/(2*now))
  for (let i = 0; i < H; i++) for (let j = 0; j < W; j++) out[i*W+j] = ids[at(i, h, H)*w+at(j, w, W)]
  return {ids: out, size: [H, W]}
}

// Which share of a map every class has: id → 0…1.
export function shares({ids}) {
  const counts = new Uint32Array(256)
  for (const id of ids) counts[id]++
  return Object.fromEntries([...counts].map((n, id) => [id, n/ids.length]).filter(([, n]) => n))
}

// Maps that there were, so that a change can be taken back.
export class History {
  #before = []; #after = []

  constructor(map, most = 100) { this.map = map; this.most = most }

  get steps() { return [this.#before.length, this.#after.length] }

  put(map, undoable = true) {
    if (undoable) { this.#before = [...this.#before, this.map].slice(-this.most); this.#after = [] }
    this.map = map
  }

  undo() { if (this.#before.length) { this.#after.push(this.map); this.map = this.#before.pop() } }

  redo() { if (this.#after.length) { this.#before.push(this.map); this.map = this.#after.pop() } }

  // What a `Drawing` tells.
  apply(told) {
    if (told.stroke) this.put(brushed(this.map, told.points, told.label, told.width), told.first)
    else if (told.fill) this.put(filled(this.map, told.row, told.col, told.label))
    else if (told.undo) this.undo()
    else if (told.redo) this.redo()
  }
}

// A map painted in the palette's colors, from its pixels (RGBA). Mixed colors, as smoothing makes them along edges, snap to a class
// beside them whose color is nearest. Gives the map and how many pixels snapped; throws where it is no map in these colors.
export function readColors(rgba, [h, w], palette) {
  const exact = new Map(palette.map(([, c, id]) => [parseInt(c.slice(1), 16), id])), ids = new Int16Array(h*w).fill(-1)
  const colors = Object.fromEntries(palette.map(([, c, id]) => [id, [1, 3, 5].map(k => parseInt(c.slice(k, k+2), 16))]))
  let todo = []
  for (let i = 0; i < h*w; i++) {
    const id = rgba[4*i+3] < 128 ? UNLABELLED : exact.get(rgba[4*i] << 16 | rgba[4*i+1] << 8 | rgba[4*i+2])
    if (id === undefined) todo.push(i)
    else ids[i] = id
  }
  const mixed = todo.length
  if (mixed > .25*h*w) throw new Error('this is no label map in the colors of the palette; a photo belongs to the photos')
  const apart = (i, id) => colors[id].reduce((sum, v, k) => sum+(v-rgba[4*i+k])**2, 0)
  while (todo.length) {
    const found = []
    for (const i of todo) {
      const j = i % w, beside = [j > 0 ? ids[i-1] : -1, j < w-1 ? ids[i+1] : -1, i >= w ? ids[i-w] : -1, i < (h-1)*w ? ids[i+w] : -1].filter(id => id >= 0)
      if (beside.length) found.push([i, beside.reduce((a, b) => apart(i, b) < apart(i, a) ? b : a)])
    }
    for (const [i, id] of found) ids[i] = id
    todo = todo.filter(i => ids[i] < 0)
  }
  return {map: {ids: Uint8Array.from(ids), size: [h, w]}, snapped: mixed}
}
