#!/usr/bin/env bash
# Label maps as TIFF whose photometric interpretation is "white is zero" (ImageJ saves masks with an inverting table so): the four usual readers
# disagree about the ids, and about which bit depths they turn round.
# Pillow 13.0.0 and OpenCV 5.0.0 give 255 - id for 8 bits; tifffile 2026.3.3, imageio 2.38.1 and scikit-image 0.26.0 give the id.
# With 16 bits nobody inverts, not even the two that do so for 8. A map that went from 8 to 16 bits therefore changes its meaning.
# Seen: [255 254 253 252] against [0 1 2 3]; at 16 bits [0 1 2 3] everywhere.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install pillow==13.0.0 tifffile==2026.3.3 imageio==2.38.1 scikit-image==0.26.0 opencv-python-headless==5.0.0.93 >/dev/null 2>&1
v/bin/python - <<'P'
import cv2
import imageio.v3 as iio
import numpy as np
import skimage.io
import tifffile
from PIL import Image
ids = np.tile(np.arange(4, dtype=np.uint8), (4, 1))
readers = {'Pillow': lambda f: np.array(Image.open(f)), 'OpenCV': lambda f: cv2.imread(f, cv2.IMREAD_UNCHANGED), 'tifffile': tifffile.imread, 'imageio': iio.imread,
           'scikit-image': skimage.io.imread}
inverts = {8: {'Pillow', 'OpenCV'}, 16: set()}
for bits, kind in ((8, np.uint8), (16, np.uint16)):
    tifffile.imwrite('map.tif', ids.astype(kind), photometric='miniswhite')
    for name, read in readers.items():
        row = read('map.tif')[0].tolist()
        print(bits, 'bits', name, row)
        assert row == ([255, 254, 253, 252] if name in inverts[bits] else [0, 1, 2, 3])
print('as described')
P
