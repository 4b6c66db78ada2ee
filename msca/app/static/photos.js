// What a photo goes through before a network sees it, as in Python: sizes, resampling, and labels from a parser's scores.
import {BILINEAR, LANCZOS, resample} from './pillow.js'

const even = v => { const n = Math.floor(v), rest = v-n; return rest > .5 || rest === .5 && n % 2 ? n+1 : n }  // as Python rounds
const stride = n => Math.max(16, Math.floor((n+8)/16)*16)

// The size with a wanted short side and the same aspect, sides multiples of 16.
export const readySize = ([h, w], short) => [h, w].map(n => stride(even(n*(short/Math.min(h, w)))))

// The size at which a photo is parsed: its short side within the parser's range; thin strips are enlarged less.
export function workSize([h, w], [least, most]) {
  const short = Math.min(h, w)
  let scale = Math.min(1, most/short)
  if (short < least) scale = Math.max(1, Math.min(least/short, 4*most/Math.max(h, w)))
  return [h, w].map(n => Math.max(16, even(n*scale)))
}

// A photo as the parser reads it: at its working size, its border repeated up to the next multiples of 16.
export function forParser(rgb, size, sides) {
  const work = workSize(size, sides), small = resample(rgb, size, work, BILINEAR), [h, w] = work, [H, W] = work.map(n => Math.ceil(n/16)*16)
  const out = new Uint8Array(H*W*3)
  for (let i = 0; i < H; i++) for (let j = 0; j < W; j++) for (let c = 0; c < 3; c++) out[3*(i*W+j)+c] = small[3*(Math.min(i, h-1)*w+Math.min(j, w-1))+c]
  return {pixels: out, size: [H, W], work}
}

// A photo as the encoder reads it.
export const forEncoder = (rgb, size, ready) => Uint8Array.from(resample(rgb, size, ready, LANCZOS))

// The best class of every pixel that a map of the size `ready` takes from one of the photo's own size: scores S×H×W, of which the
// first `work` rows and columns count, are enlarged to the photo's size, bilinearly, and the first of the largest is taken.
export function bestLabels(scores, [, H, W], [h, w], size, ready) {
  const S = scores.length/(H*W), f = Math.fround, ids = new Uint8Array(ready[0]*ready[1])
  const places = [0, 1].map(d => Array.from({length: ready[d]}, (_, k) => {
    const n = [h, w][d], at = Math.max(0, f(f(Math.floor((2*k+1)*size[d]/(2*ready[d]))+.5)*f(n/size[d])-.5)), low = Math.min(n-1, Math.floor(at))
    return [low, Math.min(n-1, low+1), f(at-low)]
  }))
  places[0].forEach(([top, bottom, down], i) => places[1].forEach(([left, right, across], j) => {
    let best = -Infinity, label = 0
    for (let k = 0; k < S; k++) {
      const o = k*H*W, row = y => scores[o+y*W+left]*(1-across)+scores[o+y*W+right]*across, score = row(top)*(1-down)+row(bottom)*down
      if (score > best) { best = score; label = k }
    }
    ids[i*ready[1]+j] = label
  }))
  return ids
}
