#!/usr/bin/env bash
# matplotlib 3.11.2, default settings: `imshow` of a label map of two classes (0 and 2) with a colormap of three colors. Drawn exactly three times
# as large, where the default ('auto') means nearest neighbour, the color of class 1 appears, which the map does not hold: one column of pixels
# beside the upright border in the middle. At 301 pixels, or with interpolation='nearest', it does not. Below three times (150 or 250 pixels for 100)
# the default blends the colors, so a picture of two classes has 11 and 16 colors; `interpolation_stage='data'` blends the ids instead and paints
# more than a thousand pixels in the absent class's color. Pixels of such a figure must not be read back as label maps.
# Seen: 29 pixels of the absent class at 300 pixels, none at 301; 11 colors at 150; 1125 pixels with interpolation_stage='data' at 150.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install matplotlib==3.11.2 numpy==2.4.6 >/dev/null 2>&1
MPLBACKEND=Agg v/bin/python - <<'P'
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
ids = np.zeros((100, 100), np.uint8)
ids[:, 50:] = 2
ids[::7] = 2
def drawn(side, **more):
    "(number of colors, pixels in the color of class 1) of the map drawn at so many pixels."
    fig = plt.figure(figsize=(side/100, side/100), dpi=100)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.imshow(ids, cmap=ListedColormap(['#ff0000', '#00ff00', '#0000ff']), vmin=0, vmax=2, **more)
    fig.canvas.draw()
    rgb = np.asarray(fig.canvas.buffer_rgba())[..., :3].reshape(-1, 3)
    plt.close(fig)
    return len(np.unique(rgb, axis=0)), int((rgb[:, 1] > 200).sum())
seen = {'300': drawn(300), '301': drawn(301), '300 nearest': drawn(300, interpolation='nearest'), '150': drawn(150), '250': drawn(250),
        '150 data': drawn(150, interpolation_stage='data')[1]}
print(seen)
assert seen == {'300': (3, 29), '301': (2, 0), '300 nearest': (2, 0), '150': (11, 0), '250': (16, 0), '150 data': 1125}, seen
print('as described')
P
