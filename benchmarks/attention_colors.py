"""What the attention of a trained painter knows of the colors of a photo it has not seen: a linear map from its features, beside the pictures themselves.

    python benchmarks/attention_colors.py scenes-256-v1 scenes-256 RUN/averages/000000 … --data $MSCA_DATA --cache CACHE --out results/attention-colors.json

A photo of 256×256 is read from itself, mirrored. `features`: least squares from what the attention brings to a place of the target and from the target's
label features to the color there, fitted on training photos, for two scales. `pictures`: those that the model paints. Both as PSNR in dB of the means of cells
of 32×32 pixels, held-out photos: how near the colors come, whatever the textures. The laboratory notebook `evidence.shipped` shows the report.
"""
import argparse
import json
import time
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from train_scenes import color_decibels, spread, stores

from msca.base.files import write_whole
from msca.evidence.report import bootstrap_mean
from msca.pretrained.models import PRETRAINED, load_painter, model_folder

SCALES, FITTED, MEASURED = (2, 4), 150, 32


def rows(features):
    "1×C×H×W as HW×(C+1), with a column of ones, float64."
    x = features[0].flatten(1).T.double()
    return torch.cat([x, torch.ones(len(x), 1)], 1)


@torch.inference_mode()
def linear_map(model, store, scale):
    "Least squares from the features of a scale to the color of the places."
    left, right = 0, 0
    for x1, c1, x2, c2 in spread(store, FITTED):
        features = model.transfer(c1, x2, c2)[0][scale]
        x, y = rows(features), F.adaptive_avg_pool2d(x1, features.shape[-2:])[0].flatten(1).T.double()
        left, right = left + x.T @ x, right + x.T @ y
    return torch.linalg.solve(left + 1e-3*torch.eye(len(left)), right)


@torch.inference_mode()
def measure(model, train, valid):
    "Decibels of every held-out photo, by what is looked at."
    maps = {s: linear_map(model, train, s) for s in SCALES}
    found = {**{f'features, scale {s}': [] for s in SCALES}, 'pictures': []}
    for x1, c1, x2, c2 in spread(valid, MEASURED):
        features = model.transfer(c1, x2, c2)[0]
        for s in SCALES:
            predicted = (rows(features[s]) @ maps[s]).T.reshape(1, 3, *features[s].shape[-2:])
            found[f'features, scale {s}'].append(color_decibels(predicted, x1))
        found['pictures'].append(color_decibels(model(c1, x2, c2), x1))
    return found


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('models', nargs='+', metavar='MODEL', help='names or folders; NAME=FOLDER gives one another name in the report')
    ap.add_argument('--data', required=True, help='folder with the photo sets')
    ap.add_argument('--cache', type=Path, required=True, help='folder for decoded photos')
    ap.add_argument('--out', type=Path, required=True)
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    a.pack, a.parser = None, PRETRAINED/'scenes-256'
    train, valid = stores(a)
    report = json.loads(a.out.read_text()) if a.out.exists() else dict(models={})
    for said in a.models:
        name, _, folder = said.rpartition('=')
        found = measure(load_painter(model_folder(folder))[0], train, valid)
        report['models'][name or folder] = {k: {q: round(x, 2) for q, x in bootstrap_mean(v)._asdict().items()} for k, v in found.items()}
        print(name or folder, {k: v['value'] for k, v in report['models'][name or folder].items()}, flush=True)
    about = dict(command='python benchmarks/attention_colors.py NAME=MODEL … --data $MSCA_DATA --cache CACHE --out results/attention-colors.json',
                 data='SIFT Flow, LabelMe Facade and CamVid: fitted on training photos, measured on held-out ones', date=time.strftime('%Y-%m-%d'))
    with write_whole(a.out) as part: part.write_text(json.dumps(about | dict(models=report['models']), indent=1)+'\n')


if __name__ == '__main__': main()
