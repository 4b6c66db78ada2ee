"""Swaps of held-out photos by two models side by side, as thumbnails: `python benchmarks/swap_sheet.py OLD NEW --data $MSCA_DATA --out FILE`.

A seed chooses them from those that held_out.py measures; nobody has picked any. Each cell holds exemplar, layout, the old model's picture and the new one's.
"""
import argparse
import json
import warnings

import numpy as np
import torch
from held_out import LIST, Questions, sides
from PIL import Image

from msca import SCENE_LABELS, Synthesizer
from msca.base.labels import colorize

SIDE, GAP = 72, 3  # pixels of a thumbnail (no photo is shown larger than 96), and between cells


def chosen_swaps(chosen, n, seed):
    "(set, photo, exemplar) for `n` swaps of the list, sorted by set."
    swaps = [(s, photo, x) for s, photos in chosen.items() for photo, exemplars in photos.items() for x in exemplars]
    return [swaps[i] for i in sorted(np.random.default_rng(seed).choice(len(swaps), n, replace=False))]


def cell(questions, models, swap):
    "Four thumbnails in a row, uint8."
    name, photo, other = swap
    scene, exemplar = questions.scene(name, photo), questions.scene(name, other).image
    painted = [s(scene, exemplar, size=questions.size, exemplar_size=questions.size) for s in models]
    small = [np.asarray(p.resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for p in (exemplar, *painted)]
    layout = np.asarray(Image.fromarray(colorize(scene.labels, SCENE_LABELS)).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    return np.concatenate([small[0], layout, *small[1:]], 1)


def sheet(cells, columns):
    "Cells in rows, white between them."
    padded = [np.pad(c, ((0, GAP), (0, 4*GAP), (0, 0)), constant_values=255) for c in cells]
    return Image.fromarray(np.concatenate([np.concatenate(padded[i:i+columns], 1) for i in range(0, len(cells), columns)]))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('models', nargs=2, help='shipped models or checkpoint folders, the old one first')
    ap.add_argument('--data', required=True, help='folder with the photo sets')
    ap.add_argument('--n', type=int, default=36, help='swaps')
    ap.add_argument('--columns', type=int, default=3, help='swaps in a row')
    ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--out', required=True, help='JPEG to write')
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    chosen = json.loads(LIST.read_text())['sets']
    questions = Questions(chosen, sides(a.data), 256)
    models = [Synthesizer.load(m, 'cpu', quiet=True) for m in a.models]
    sheet([cell(questions, models, s) for s in chosen_swaps(chosen, a.n, a.seed)], a.columns).save(a.out, quality=82)


if __name__ == '__main__': main()
