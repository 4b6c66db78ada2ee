#!/usr/bin/env bash
# OpenCV 5.0.0 and PAM, the Netpbm format for pictures of any number of channels. The format stores a sample in a byte of its own even where MAXVAL is 1
# (what Netpbm's tools write for a mask; only PBM packs eight into a byte). OpenCV reads such a file as if it were packed: a mask of zeros
# and ones comes back without the ones, of the right shape and without an error. With MAXVAL 2 or 255 the same bytes are read right.
# Nor does it read all that it writes itself: imwrite gives no TUPLTYPE, says True, and of such files imread refuses those with alpha or 16 bits.
# Seen, of a mask with 20 ones of 40: MAXVAL 1: 0 ones; MAXVAL 2: 20; MAXVAL 255: 20; written and read again: 1 and 3 channels of 8 bits are
# equal, 4 channels of 8 bits and 1 channel of 16 bits: None; 4 channels with IMWRITE_PAM_TUPLETYPE: equal.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install opencv-python-headless==5.0.0.93 numpy==2.4.6 >/dev/null 2>&1
v/bin/python - <<'P' 2>/dev/null
import cv2
import numpy as np
mask = np.tile(np.array([0, 1], np.uint8), (5, 4))
def ones(top):
    "How many ones OpenCV finds in the mask, stored as PAM with such a MAXVAL."
    open('mask.pam', 'wb').write(b'P7\nWIDTH 8\nHEIGHT 5\nDEPTH 1\nMAXVAL %d\nTUPLTYPE GRAYSCALE\nENDHDR\n' % top + mask.tobytes())
    seen = cv2.imread('mask.pam', cv2.IMREAD_UNCHANGED)
    assert seen.shape == mask.shape and seen.dtype == np.uint8
    return int((seen > 0).sum())
found = {top: ones(top) for top in (1, 2, 255)}
print('of', int(mask.sum()), 'ones:', found)
assert found == {1: 0, 2: 20, 255: 20}
def back(channels, kind=np.uint8, how=()):
    im = (np.arange(20*channels).reshape(4, 5, channels)).astype(kind).squeeze()
    assert cv2.imwrite('im.pam', im, how)
    seen = cv2.imread('im.pam', cv2.IMREAD_UNCHANGED)
    return 'None' if seen is None else 'equal' if np.array_equal(seen, im) else 'other'
found = [back(1), back(3), back(4), back(1, np.uint16), back(4, how=(cv2.IMWRITE_PAM_TUPLETYPE, cv2.IMWRITE_PAM_FORMAT_RGB_ALPHA))]
print('written and read again:', *found)
assert found == ['equal', 'equal', 'None', 'None', 'equal']
print('as described')
P
