// A label map to paint on, with the palette of its classes: by mouse, finger, pen and keyboard.
//
// It shows the map that it is given, and tells its owner what somebody does; the owner changes the map and shows it again. Until then
// a stroke is seen as a preview, on top of the map. Everything that is told has a number; a map that is shown comes with the number
// of the last thing that is in it, and previews up to that number go. Boxes may lie over the map: they are drawn, moved and resized.

const part = (tag, name, parent) => {
  const e = document.createElement(tag)
  e.className = name
  parent.append(e)
  return e
}

const HELP = 'label map to paint on. Arrow keys move the brush, Shift with them by one pixel; Space paints, P keeps the brush down or lifts it, F fills, Ctrl+Z undoes.'
const HELP_BOX = 'layout to draw boxes on. Arrow keys move a point, Shift with them by one pixel; Space begins a box there, Space again ends it; Ctrl+Z undoes.'
const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}

const LEAST = .02  // side of a box
const clamp = (v, low, high) => Math.max(low, Math.min(high, v))
const rounded = v => Math.round(v*1000)/1000

export class Drawing {
  label = 0  // id that is painted
  width = 12  // of the brush in pixels of the map
  tool = 'brush'  // or 'fill', or 'box'
  #sent = 0; #preview = []; #points = null; #first = true; #frame = 0; #ids = null; #end = null; #cursor = null; #down = false; #box = null

  constructor(el, {
    palette,  // [name, '#rrggbb', id] of every class
    act,  // called with {number, stroke, first, points, label, width}, {number, fill, row, col, label}, {number, box, index, label}, {number, undo} or {number, redo}
    choose,  // called with the id of a class that was picked
    sent = 0,  // number of the last thing that was told
  }) {
    this.act = act; this.#sent = sent
    el.classList.add('msca-paint')
    this.sheet = part('div', 'msca-sheet', el)
    this.canvas = part('canvas', '', this.sheet)
    this.frames = part('div', 'msca-frames', this.sheet)
    this.ring = part('div', 'msca-ring', this.sheet)
    this.said = part('p', 'msca-said', this.sheet)
    this.palette = part('div', 'msca-palette', el)
    this.g = this.canvas.getContext('2d')
    this.names = Object.fromEntries(palette.map(([name, , id]) => [id, name]))
    this.colors = Object.fromEntries(palette.map(([, color, id]) => [id, color]))
    this.rgba = new Uint32Array(256).fill(0xff000000)
    for (const [, c, id] of palette) this.rgba[id] = 0xff000000 | parseInt(c.slice(5, 7), 16) << 16 | parseInt(c.slice(3, 5), 16) << 8 | parseInt(c.slice(1, 3), 16)
    this.#fillPalette(palette, choose)
    this.#listen()
  }

  #fillPalette(palette, choose) {
    this.palette.setAttribute('role', 'group')
    this.palette.setAttribute('aria-label', 'classes to paint with')
    for (const [name, color, id] of palette) {
      const b = part('button', '', this.palette)
      part('i', '', b).style.background = color
      b.append(name)
      b.type = 'button'; b.dataset.label = id
      b.onclick = () => choose(id)
    }
    this.palette.onkeydown = e => {
      const step = STEPS[e.key]
      if (!step) return
      e.preventDefault()
      const all = [...this.palette.children], at = all.indexOf(document.activeElement)
      all[(at + step[0] + step[1] + all.length) % all.length].focus()
    }
  }

  #listen() {
    const c = this.canvas
    c.tabIndex = 0
    c.setAttribute('role', 'application'); c.setAttribute('aria-label', HELP)
    this.said.setAttribute('aria-live', 'polite')
    c.onpointerdown = e => this.#press(e)
    c.onpointermove = e => this.#move(e)
    c.onpointerup = c.onpointercancel = () => { this.#lift(); this.#endBox() }
    c.onkeydown = e => this.#key(e)
    c.onblur = () => { this.#cursor = null; this.#down = false; this.#dropBox(); this.sheet.classList.remove('msca-by-keys') }
  }

  // The map that there is now: ids row by row, its height and width, and the number of the last thing that is in it.
  show(ids, [h, w], done = this.#sent) {
    if (ids.length !== h*w) return
    if (this.canvas.width !== w || this.canvas.height !== h) { this.canvas.width = w; this.canvas.height = h }
    this.#ids = ids
    const im = this.g.createImageData(w, h), pixels = new Uint32Array(im.data.buffer)
    for (let i = 0; i < ids.length; i++) pixels[i] = this.rgba[ids[i]]
    this.g.putImageData(im, 0, 0)
    this.#preview = this.#preview.filter(s => s.number > done)
    this.#preview.forEach(s => this.#stroke(s))
  }

  // The class that is painted from now on.
  mark(label) {
    this.label = label
    for (const b of this.palette.children) b.setAttribute('aria-pressed', b.dataset.label == label)
  }

  // Boxes over the map: [class, left, top, right, bottom], sides as shares of it. The name of a box moves it, its corner resizes it.
  frame(boxes) {
    this.canvas.setAttribute('aria-label', HELP_BOX)
    this.frames.replaceChildren(...boxes.map(([name, ...sides], index) => {
      const e = this.#framed(sides)
      for (const kind of ['move', 'size']) {
        const grip = part('span', 'msca-'+kind, e)
        grip.onpointerdown = down => this.#grip(down, e, grip, index, kind, sides)
      }
      e.firstChild.textContent = name
      return e
    }))
    if (this.#box) this.frames.append(this.#box.e)
  }

  #framed(sides) { const e = document.createElement('div'); e.className = 'msca-frame-box'; this.#put(e, sides); return e }

  #put({style}, [left, top, right, bottom]) {
    style.left = 100*left + '%'; style.top = 100*top + '%'; style.width = 100*(right-left) + '%'; style.height = 100*(bottom-top) + '%'
  }

  #share(e) { return this.#place(e).map((v, i) => clamp(v/[this.canvas.width, this.canvas.height][i], 0, 1)) }

  #grip(down, e, grip, index, kind, [left, top, right, bottom]) {
    if (down.button) return
    down.preventDefault(); grip.setPointerCapture(down.pointerId)
    const from = this.#share(down)
    let sides = null
    grip.onpointermove = at => {
      const [dx, dy] = this.#share(at).map((v, i) => v-from[i]), x = clamp(dx, -left, 1-right), y = clamp(dy, -top, 1-bottom)
      sides = kind === 'move' ? [left+x, top+y, right+x, bottom+y] : [left, top, clamp(right+dx, left+LEAST, 1), clamp(bottom+dy, top+LEAST, 1)]
      this.#put(e, sides)
    }
    grip.onpointerup = grip.onpointercancel = () => {
      grip.onpointermove = grip.onpointerup = grip.onpointercancel = null
      if (sides) this.#tell({box: sides.map(rounded), index})
    }
  }

  #beginBox(from, pointer) {
    this.#dropBox()
    this.#box = {from, to: from, pointer, e: this.#framed([...from, ...from])}
    this.frames.append(this.#box.e)
  }

  #pullBox(to) { this.#box.to = to; this.#put(this.#box.e, this.#sides()) }

  #sides() {
    const {from: [x, y], to: [u, v]} = this.#box
    return [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)]
  }

  #endBox() {
    if (!this.#box) return
    const sides = this.#sides(), {label} = this
    this.#dropBox()
    if (sides[2]-sides[0] >= LEAST && sides[3]-sides[1] >= LEAST) this.#tell({box: sides.map(rounded), label})
  }

  #dropBox() { this.#box?.e.remove(); this.#box = null }

  #tell(what) { const told = {number: ++this.#sent, ...what}; this.act(told); return told }

  #stroke(s) {
    const g = this.g
    g.strokeStyle = this.colors[s.label]; g.lineWidth = s.width; g.lineCap = g.lineJoin = 'round'
    g.beginPath(); g.moveTo(...s.points[0]); s.points.forEach(p => g.lineTo(...p)); g.stroke()
  }

  #place(e) {
    const r = this.canvas.getBoundingClientRect()
    return [(e.clientX-r.left)/r.width*this.canvas.width, (e.clientY-r.top)/r.height*this.canvas.height]
  }

  #flush() {
    this.#frame = 0
    if (!this.#points) return
    const s = {stroke: true, number: this.#sent+1, first: this.#first, points: this.#points, label: this.label, width: this.width}
    this.#preview.push(s); this.#stroke(s); this.#tell(s)
    this.#points = [this.#points.at(-1)]; this.#end = this.#points[0]; this.#first = false
  }

  #fill([x, y]) {
    const {width, height} = this.canvas, inside = (v, n) => Math.max(0, Math.min(n-1, Math.floor(v)))
    this.#tell({fill: true, row: inside(y, height), col: inside(x, width), label: this.label})
  }

  #press(e) {
    if (e.button || this.#points) return  // a second finger paints nothing
    const at = this.#place(e)
    if (this.tool === 'fill') return this.#fill(at)
    if (this.tool === 'box') this.#beginBox(this.#share(e), e.pointerId)
    try { this.canvas.setPointerCapture(e.pointerId) } catch { /* the pointer is gone already */ }
    if (this.#box) return
    this.#points = e.shiftKey && this.#end ? [this.#end, at] : [at]  // with Shift a straight line from where the last stroke ended
    this.#first = true; this.pointer = e.pointerId
    this.#flush()
  }

  #move(e) {
    if (this.#box) return e.pointerId === this.#box.pointer && this.#pullBox(this.#share(e))
    if (this.#points && e.pointerId !== this.pointer) return
    this.#circle(this.#place(e))
    if (!this.#points) return
    const all = e.getCoalescedEvents?.() ?? []
    for (const one of all.length ? all : [e]) this.#points.push(this.#place(one))
    this.#frame ||= requestAnimationFrame(() => this.#flush())
  }

  #lift() {
    if (this.#points?.length > 1) { cancelAnimationFrame(this.#frame); this.#flush() }
    this.#points = null
  }

  #circle([x, y]) {
    const {style} = this.ring, size = this.tool === 'brush' ? this.width : 0
    style.left = x/this.canvas.width*100 + '%'; style.top = y/this.canvas.height*100 + '%'
    style.width = size/this.canvas.width*100 + '%'; style.aspectRatio = 1
  }

  #key(e) {
    const key = e.key.length === 1 ? e.key.toLowerCase() : e.key
    if (e.ctrlKey || e.metaKey) {
      if (key !== 'z' && key !== 'y') return
      e.preventDefault(); e.stopPropagation()
      return this.#tell({[key === 'y' || e.shiftKey ? 'redo' : 'undo']: true})
    }
    if (!STEPS[key] && !(this.tool === 'box' ? ' ' : ' pf').includes(key)) return
    e.preventDefault()
    this.#cursor ??= [this.canvas.width/2, this.canvas.height/2]
    this.sheet.classList.add('msca-by-keys')
    const from = this.#cursor
    if (STEPS[key]) this.#cursor = from.map((v, i) => {
      const n = [this.canvas.width, this.canvas.height][i]
      return Math.max(.5, Math.min(n-.5, v+STEPS[key][i]*(e.shiftKey ? 1 : Math.max(1, this.width/2))))
    })
    this.#circle(this.#cursor)
    if (this.tool === 'box') return this.#boxKey(key)
    if (key === 'p') this.#down = !this.#down
    if (key === 'f' || (key === ' ' && this.tool === 'fill')) this.#fill(this.#cursor)
    else if (key === ' ' || key === 'p' && this.#down) this.#dab([this.#cursor])
    else if (this.#down) this.#dab([from, this.#cursor])
    this.#say()
  }

  #boxKey(key) {
    const here = this.#cursor.map((v, i) => v/[this.canvas.width, this.canvas.height][i])
    if (key === ' ' && !this.#box) this.#beginBox(here)
    else if (this.#box) { this.#pullBox(here); if (key === ' ') this.#endBox() }
    this.#say()
  }

  #dab(points) { this.#points = points; this.#first = true; this.#flush(); this.#points = null }

  #say() {
    const [x, y] = this.#cursor.map(Math.floor), id = this.#ids?.[y*this.canvas.width+x]
    this.said.textContent = `${this.names[id] ?? ''}, row ${y+1}, column ${x+1}${this.#down ? ', brush down' : ''}${this.#box ? ', box begun' : ''}`
  }
}
