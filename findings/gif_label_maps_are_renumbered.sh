#!/usr/bin/env bash
# Pillow 13.0.0: a label map saved as GIF comes back with other ids, if it has fewer than 512*512 pixels. There the encoder drops unused colors of the
# palette (when the rest needs fewer bits) and renumbers the ids without a gap. From 512x512 pixels on the ids stay, even with optimize=True;
# optimize=False keeps them in all sizes. A grey picture comes back indexed and renumbered too. So a conversion that was tested with real photographs'
# maps breaks their 256x256 copies, and ids differ between maps of one data set, since each drops what it does not hold. PNG, TIFF and BMP keep the ids.
# Seen, of ids 0 5 200: 511x512: 0 1 2; 512x512: 0 5 200; 511x512 with optimize=False: 0 5 200; 512x512 with optimize=True: 0 5 200; ids 0 to 199: all stay.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install pillow==13.0.0 numpy==2.4.6 >/dev/null 2>&1
v/bin/python - <<'P'
import numpy as np
from PIL import Image
def back(rows, ids, end='gif', indexed=True, **how):
    "The ids that a map of such rows of 512 pixels has after it was written and read."
    labels = np.zeros((rows, 512), np.uint8)
    labels[:len(ids)] = np.array(ids, np.uint8)[:, None]
    im = Image.fromarray(labels)
    if indexed: im.putpalette([c for k in range(256) for c in (255-k, k, 7)])
    im.save(f'map.{end}', **how)
    return np.unique(np.array(Image.open(f'map.{end}'))).tolist()
ids, renumbered = [0, 5, 200], [0, 1, 2]
seen = {'511 rows': back(511, ids), '512 rows': back(512, ids), '511 rows, optimize=False': back(511, ids, optimize=False),
        '512 rows, optimize=True': back(512, ids, optimize=True), '511 rows, grey': back(511, ids, indexed=False)}
for k, v in seen.items(): print(k, v)
assert list(seen.values()) == [renumbered, ids, ids, ids, renumbered]
assert back(511, range(200)) == list(range(200)) and all(back(511, ids, end) == ids for end in ('png', 'tif', 'bmp'))
print('as described')
P
