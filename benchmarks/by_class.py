"""Two measures of a model's pictures, class by class: LPIPS, and how much of the texture is one pattern that is fixed to the grid of pixels.

    python benchmarks/by_class.py scenes-256 NAME=RUN/averages/000000 … --data $MSCA_DATA --cache CACHE --alexnet ALEXNET --out results/by-class.json

96 held-out photos are painted from themselves, mirrored, each from another place of the plane of noise.

`lpips_alex`: the map of LPIPS on AlexNet, mean over the pixels of a class.
`pattern`: cells of 16×16 pixels that lie on the grid of 16 pixels and hold one class lose their mean and slope and get unit variance. The share is the mean product of
a pixel's values in cells of different pictures: 1 where all cells are equal, 0 where nothing is the same. It shows what looks woven or hatched. Pixels are grays.

Intervals are a jackknife's over photos. `photos` are the true pictures. The laboratory notebook `evidence.shipped` shows the report.
"""
import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from train_scenes import S, spread, stores

from msca.base.files import write_whole
from msca.base.labels import SCENE_LABELS
from msca.evidence.perceptual import lpips_network
from msca.model.synthesizer import place_noise
from msca.pretrained.models import PRETRAINED, load_painter, model_folder

CELL, PHOTOS, LEAST = 16, 96, 150  # pixels; number; cells of a class over all pictures
FLAT = .5  # of 255: deviation below which a cell has no texture, only rounding


def cells(gray, classes):
    "(class, cell) of a picture in 0…255: those that hold one class."
    y, x = np.mgrid[:CELL, :CELL] - (CELL-1)/2
    for top in range(0, gray.shape[0], CELL):
        for left in range(0, gray.shape[1], CELL):
            at = np.s_[top:top+CELL, left:left+CELL]
            if classes[at].min() < classes[at].max() or classes[at].max() >= S: continue
            cell = gray[at] - gray[at].mean()
            for slope in (y, x): cell = cell - slope*(cell*slope).sum()/(slope*slope).sum()
            yield int(classes[top, left]), cell/max(cell.std(), FLAT)


def same_share(sums, numbers):
    "Mean product of a pixel's values in cells of different pictures, from every picture's sum of cells and number of cells."
    total, n = sums.sum(0), numbers.sum()
    return ((total**2).sum() - (sums**2).sum())/CELL**2/(n**2 - (numbers**2).sum())


def class_mean(sums, numbers): return sums.sum()/numbers.sum()


def with_interval(f, sums, numbers):
    "A statistic, and the 95 % interval of a jackknife that leaves one picture out."
    there = numbers > 0
    sums, numbers = sums[there], numbers[there]
    rest = np.array([f(np.delete(sums, i, 0), np.delete(numbers, i)) for i in range(len(numbers))])
    value, half = f(sums, numbers), 1.96*np.sqrt((len(rest)-1)/len(rest)*((rest-rest.mean())**2).sum())
    return {k: round(float(v), 4) for k, v in dict(value=value, low=value-half, high=value+half).items()}


@torch.inference_mode()
def measure(paint, valid, network):
    "Class → its measures, for classes with enough cells. `paint`: a number and what `spread` gives → picture, 1×3×H×W in [-1, 1]."
    distance, pixels, pattern, number = np.zeros((PHOTOS, S)), np.zeros((PHOTOS, S)), np.zeros((PHOTOS, S, CELL, CELL)), np.zeros((PHOTOS, S))
    for i, item in enumerate(spread(valid, PHOTOS)):
        picture, known = paint(i, *item).float(), item[1][0, :S]  # no class is known where all are 0
        distance[i], pixels[i] = (network(picture, item[0])[0]*known).sum((1, 2)), known.sum((1, 2))
        for k, cell in cells((picture[0].mean(0).numpy()+1)*127.5, np.where(known.sum(0) > .5, known.argmax(0), S)):
            pattern[i, k] += cell
            number[i, k] += 1
    enough = [k for k in range(S) if number[:, k].sum() >= LEAST and (number[:, k] > 0).sum() > 2]
    return {SCENE_LABELS.classes[k]: dict(cells=int(number[:, k].sum()), lpips_alex=with_interval(class_mean, distance[:, k], pixels[:, k]),
                                          pattern=with_interval(same_share, pattern[:, k], number[:, k])) for k in enough}


def painter(model):
    def paint(i, x1, c1, x2, c2):
        place_noise(model, i+1)
        return model(c1, x2, c2)
    return paint


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('models', nargs='+', metavar='MODEL', help='names or folders; NAME=FOLDER gives one another name in the report')
    ap.add_argument('--data', required=True, help='folder with the photo sets')
    ap.add_argument('--cache', type=Path, required=True, help='folder for decoded photos')
    ap.add_argument('--alexnet', required=True, help='weights of LPIPS on AlexNet')
    ap.add_argument('--out', type=Path, required=True)
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    a.pack, a.parser = None, PRETRAINED/'scenes-256'
    _, valid = stores(a)
    network = lpips_network('alex', a.alexnet)
    network.net.spatial = True  # a map in place of its mean
    told = json.loads(a.out.read_text()) if a.out.exists() else {}  # it may say more than this script writes
    report = told.pop('models', None) or dict(photos=measure(lambda i, x1, *_: x1, valid, network))
    for said in a.models:
        name, _, folder = said.rpartition('=')
        report[name or folder] = measure(painter(load_painter(model_folder(folder))[0]), valid, network)
        print(name or folder, {k: (v['lpips_alex']['value'], v['pattern']['value']) for k, v in report[name or folder].items()}, flush=True)
    about = dict(command='python benchmarks/by_class.py NAME=MODEL … --data $MSCA_DATA --cache CACHE --alexnet ALEXNET --out results/by-class.json',
                 data=f'{PHOTOS} held-out photos of SIFT Flow, LabelMe Facade and CamVid, painted from themselves, mirrored', date=time.strftime('%Y-%m-%d'))
    with write_whole(a.out) as part: part.write_text(json.dumps(told | about | dict(models=report), indent=1)+'\n')


if __name__ == '__main__': main()
