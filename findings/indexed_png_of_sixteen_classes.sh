#!/usr/bin/env bash
# torchvision 0.29.2: decode_image of an indexed PNG gives the indices when the file has 8 bits a pixel, so it is a fast reader of label maps. With 4, 2
# or 1 bits a pixel it gives the packed bytes: one "id" holds two, four or eight pixels, and the rest of each row holds nothing of the file.
# The shape is right and nothing is raised. Pillow 13.0.0 writes a palette of at most 16 colors with 4 bits by itself, so a label map
# of 17 classes passes through the two libraries and one of 16 does not. mode=RGB unpacks properly in all cases.
# Seen, of a row of ids 0 1 2 3 4 5 6 7: 17 classes: 0 1 2 3; 16 classes: 1 35 69 103 (01, 23, 45, 67 in hexadecimal); 4 classes: 27 27 (0123 in base 4).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install torch==2.15.0 torchvision==0.29.2 pillow==13.0.0 numpy==2.4.6 >/dev/null 2>&1
v/bin/python - <<'P'
import numpy as np
from PIL import Image
from torchvision.io import decode_image
def row(classes):
    "(bits a pixel, ids of the first row as torchvision reads them) of a map of so many classes; Pillow reads all of them, and the colors agree."
    ids = np.tile((np.arange(8) % classes).astype(np.uint8), (4, 1))
    im = Image.fromarray(ids)
    im.putpalette([c for k in range(classes) for c in (255-k, k, 7)])
    im.save('map.png')
    seen, colors = decode_image('map.png'), decode_image('map.png', mode='RGB')
    assert seen.shape == (1, 4, 8) and np.array_equal(np.array(Image.open('map.png')), ids)
    assert np.array_equal(colors.permute(1, 2, 0).numpy(), np.array(Image.open('map.png').convert('RGB')))
    return open('map.png', 'rb').read()[24], seen[0, 0].tolist()
for classes, bits, start in ((256, 8, [0, 1, 2, 3]), (17, 8, [0, 1, 2, 3]), (16, 4, [1, 35, 69, 103]), (4, 2, [27, 27]), (2, 1, [85])):
    found = row(classes)
    print(classes, 'classes,', found[0], 'bits:', found[1][:len(start)])
    assert found[0] == bits and found[1][:len(start)] == start, found
print('as described')
P
