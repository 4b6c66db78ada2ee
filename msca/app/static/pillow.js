// Photos at another size, with the very numbers that Pillow 13 gives: weights in 22 bits, and rounding between the two passes. Down comes
// first where that takes away more than twice as many rows as the other takes columns; before Pillow 13 it never did, and single bytes differ.

const BITS = 22
const sinc = x => x ? Math.sin(Math.PI*x)/(Math.PI*x) : 1
export const LANCZOS = {reach: 3, at: x => Math.abs(x) < 3 ? sinc(x)*sinc(x/3) : 0}
export const BILINEAR = {reach: 1, at: x => Math.max(0, 1-Math.abs(x))}

// For every new place: where its sources begin, and their weights.
function weights(old, now, filter) {
  const scale = old/now, wide = Math.max(scale, 1), reach = filter.reach*wide, out = []
  for (let k = 0; k < now; k++) {
    const center = (k+.5)*scale, begin = Math.max(0, Math.trunc(center-reach+.5)), end = Math.min(old, Math.trunc(center+reach+.5))
    const raw = Array.from({length: end-begin}, (_, i) => filter.at((i+begin-center+.5)*(1/wide))), sum = raw.reduce((a, b) => a+b, 0)
    out.push([begin, raw.map(v => { const s = v/sum*2**BITS; return Math.trunc(s < 0 ? s-.5 : s+.5) })])
  }
  return out
}

function pass(src, h, w, n, table, across) {
  const H = across ? h : n, W = across ? n : w, out = new Uint8ClampedArray(H*W*3)
  const step = across ? 3 : 3*w
  for (let i = 0; i < H; i++) for (let j = 0; j < W; j++) {
    const [begin, ws] = table[across ? j : i], from = across ? 3*(i*w+begin) : 3*(begin*w+j)
    for (let c = 0; c < 3; c++) {
      let sum = 2**(BITS-1)
      for (let k = 0, at = from+c; k < ws.length; k++, at += step) sum += src[at]*ws[k]
      out[3*(i*W+j)+c] = Math.floor(sum/2**BITS)
    }
  }
  return out
}

// rgb: three bytes a pixel, of h×w; gives H×W.
export function resample(rgb, [h, w], [H, W], filter) {
  const across = () => { if (W !== w) rgb = pass(rgb, first ? H : h, w, W, weights(w, W, filter), true) }
  const down = () => { if (H !== h) rgb = pass(rgb, h, first ? w : W, H, weights(h, H, filter), false) }
  const first = H < h && h-H > 2*(w-W)
  for (const go of first ? [down, across] : [across, down]) go()
  return rgb
}
