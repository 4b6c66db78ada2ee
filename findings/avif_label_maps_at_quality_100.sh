#!/usr/bin/env bash
# Pillow 13.0.0 (libavif 1.4.2), label maps as AVIF: at quality=100 a gray map of class ids comes back exactly, and the same map in the colors of its
# classes does not. Color is stored as luma and chroma at half the resolution unless told otherwise, so borders of classes blend into colors that
# belong to no class, or to another; with subsampling='4:4:4' nearly every pixel is still off by one or two, as the color space itself rounds.
# And '4:4:4', given with a gray map, makes it an RGB picture when it is read again. At the default quality the gray map loses too.
# Seen, 33 random classes in blocks of 16×16: gray ids, quality 100: 0 % of pixels changed, mode L; with 4:4:4 mode RGB; default quality 25 %, by up
# to 5 ids. Colors, quality 100: 98 % changed, by up to 124 of 255, and 9 % of all pixels nearest to another class's color; with 4:4:4: 97 %, by up to 2.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install pillow==13.0.0 numpy==2.4.6 >/dev/null 2>&1
v/bin/python - <<'P'
import io
import numpy as np
from PIL import Image, features
rng = np.random.default_rng(0)
ids = np.kron(rng.integers(0, 33, (16, 16)), np.ones((16, 16), int)).astype(np.uint8)
colors = rng.integers(0, 256, (33, 3)).astype(np.uint8)
def again(a, **how):
    file = io.BytesIO()
    Image.fromarray(a).save(file, 'AVIF', **how)
    picture = Image.open(file)
    return picture.mode, np.asarray(picture).astype(int)
def loss(a, b): return float((a != b).reshape(256, 256, -1).any(-1).mean()), int(abs(a-b).max())
print('libavif', features.version('avif'))
mode, gray = again(ids, quality=100)
print('gray, quality 100:', mode, loss(gray, ids))
assert mode == 'L' and loss(gray, ids) == (0, 0)
mode, gray = again(ids, quality=100, subsampling='4:4:4')
print('gray, quality 100, 4:4:4:', mode, loss(gray[..., 0], ids))
assert mode == 'RGB' and (gray == ids[..., None]).all()
mode, gray = again(ids)
print('gray, default quality:', mode, loss(gray, ids))
assert loss(gray, ids)[0] > .05
_, half = again(colors[ids], quality=100)
nearest = ((half[..., None, :]-colors.astype(int))**2).sum(-1).argmin(-1)
print('colors, quality 100:', loss(half, colors[ids]), 'nearest to another class:', float((nearest != ids).mean()))
assert loss(half, colors[ids])[0] > .9 and loss(half, colors[ids])[1] > 60 and (nearest != ids).mean() > .005
_, full = again(colors[ids], quality=100, subsampling='4:4:4')
print('colors, quality 100, 4:4:4:', loss(full, colors[ids]))
assert loss(full, colors[ids])[0] > .5 and 0 < loss(full, colors[ids])[1] <= 4
print('as described')
P
