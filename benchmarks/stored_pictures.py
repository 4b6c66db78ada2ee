"""Small versions of what the shipped models paint, which tests compare with what they paint later: `python benchmarks/stored_pictures.py` writes tests/shipped_pictures.npz.

Write it anew only when a model is replaced on purpose; with NAME it writes those of one model and leaves the others.
Eight procedural scenes that no training saw, each in the style of another one, given as a bare picture.
"""
import sys
from pathlib import Path

import numpy as np
from shipped_measures import HELD_OUT

from msca import Synthesizer
from msca.data.render import procedural_scene
from msca.pretrained.models import shipped_models

STORED = Path(__file__).parents[1]/'tests'/'shipped_pictures.npz'
N, SIDE = 8, 32  # scenes, and pixels of a stored picture


def painted(s):
    "8×N×N×3 pictures, values 0 to 255."
    scenes = [procedural_scene(HELD_OUT+i, s.size) for i in range(2*N)]
    return np.stack([np.asarray(s(a.labels, b.image), np.float32) for a, b in zip(scenes[:N], scenes[N:])])


def small(pictures):
    "Means over squares: 8×32×32×3."
    n, h, w, c = pictures.shape
    return pictures.reshape(n, SIDE, h//SIDE, SIDE, w//SIDE, c).mean((2, 4))


def texture(pictures):
    "Per picture, the mean step from a pixel to its right neighbor, in gray levels: what means over squares do not show."
    return np.abs(np.diff(pictures.mean(-1), axis=2)).mean((1, 2))


def distance(pictures, stored, name):
    "(mean distance of the small pictures in gray levels, largest relative change of texture)."
    return float(np.abs(small(pictures)-stored[f'{name}.small']).mean()), float(np.abs(texture(pictures)/stored[f'{name}.texture']-1).max())


def main():
    found = dict(np.load(STORED)) if sys.argv[1:] else {}
    for name in sys.argv[1:] or shipped_models():
        pictures = painted(Synthesizer.load(name, 'cpu', quiet=True))
        found |= {f'{name}.small': small(pictures).round().astype(np.uint8), f'{name}.texture': texture(pictures).astype(np.float32)}
    np.savez_compressed(STORED, **found)


if __name__ == '__main__': main()
