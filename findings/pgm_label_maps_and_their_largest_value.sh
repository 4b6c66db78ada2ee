#!/usr/bin/env bash
# A PGM file names its largest value. A label map of 20 classes may say 19 there, as the format asks for. Pillow 13.0.0 (and imageio 2.38.1, which
# reads through it) then multiplies every id by 255/19 and rounds; OpenCV 5.0.0 gives the ids. With 256 classes' worth of room (255) all agree,
# so code that was tested with such files breaks silently with the smaller ones. Several multiplied ids are valid ids again (1 becomes 13).
# Seen: ids 0 1 2 3 read as 0 13 27 40 by Pillow and imageio, as 0 1 2 3 by OpenCV.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install pillow==13.0.0 imageio==2.38.1 opencv-python-headless==5.0.0.93 >/dev/null 2>&1
v/bin/python - <<'P'
import cv2
import imageio.v3 as iio
import numpy as np
from PIL import Image
ids = np.tile(np.arange(4, dtype=np.uint8), (4, 1))
for top, pillow in ((19, [0, 13, 27, 40]), (255, [0, 1, 2, 3])):
    open('map.pgm', 'wb').write(b'P5 4 4 %d\n' % top + ids.tobytes())
    seen = {'Pillow': np.array(Image.open('map.pgm'))[0].tolist(), 'imageio': iio.imread('map.pgm')[0].tolist(), 'OpenCV': cv2.imread('map.pgm', cv2.IMREAD_UNCHANGED)[0].tolist()}
    print(top, seen)
    assert seen == {'Pillow': pillow, 'imageio': pillow, 'OpenCV': [0, 1, 2, 3]}, seen
print('as described')
P
