#!/usr/bin/env bash
# tifffile 2026.3.3 (and imageio 2.38.1, which writes TIFF through it): a mask of type bool, saved without any option, becomes a TIFF of one
# bit a pixel whose photometric interpretation is "white is zero", although True is stored as 1. Pillow 13.0.0 and OpenCV 5.0.0 obey the file and give
# the complement: object and background change places, without a word. The writers' own readers ignore the field, so their round trip looks right.
# The same mask as uint8, or with photometric='minisblack', is read alike by all; so are those that scikit-image 0.26.0 and Pillow write.
# Seen: written by tifffile and imageio: tifffile reads the mask, Pillow and OpenCV its complement; written in the other four ways: the mask for all.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install pillow==13.0.0 tifffile==2026.3.3 imageio==2.38.1 scikit-image==0.26.0 opencv-python-headless==5.0.0.93 numpy==2.4.6 >/dev/null 2>&1
v/bin/python -W ignore - <<'P'
import cv2
import imageio.v3 as iio
import numpy as np
import skimage.io
import tifffile
from PIL import Image
mask = np.zeros((6, 11), bool)
mask[1:4, 2:9] = True
readers = {'tifffile': tifffile.imread, 'Pillow': lambda f: np.array(Image.open(f)), 'OpenCV': lambda f: cv2.imread(f, cv2.IMREAD_UNCHANGED)}
def readings():
    "What each reader makes of the file: the mask, its complement or another thing."
    found = [read('mask.tif') > 0 for read in readers.values()]
    return ['mask' if np.array_equal(f, mask) else 'complement' if np.array_equal(f, ~mask) else 'other' for f in found]
inverted, right = ['mask', 'complement', 'complement'], ['mask']*3
writers = {'tifffile': (lambda: tifffile.imwrite('mask.tif', mask), inverted), 'imageio': (lambda: iio.imwrite('mask.tif', mask), inverted),
           'scikit-image': (lambda: skimage.io.imsave('mask.tif', mask, check_contrast=False), right),
           'tifffile, uint8': (lambda: tifffile.imwrite('mask.tif', mask.astype(np.uint8)), right),
           'tifffile, minisblack': (lambda: tifffile.imwrite('mask.tif', mask, photometric='minisblack'), right),
           'Pillow': (lambda: Image.fromarray(mask).save('mask.tif'), right)}
for name, (write, expected) in writers.items():
    write()
    found = readings()
    print(f'written by {name}:', dict(zip(readers, found)))
    assert found == expected
print('as described')
P
