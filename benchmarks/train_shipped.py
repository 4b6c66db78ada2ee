"""Train the synthesizers that ship with the package.

    python benchmarks/train_shipped.py photos     --data $MSCA_DATA --perceptual-weights $WEIGHTS --parser PARSER --out RUN
    python benchmarks/train_shipped.py procedural --perceptual-weights $WEIGHTS --parser PARSER --out RUN

Two runs in a row: `RUN/small` at 64×64 (attention pre-training and reconstruction), then `RUN/full` at 128×128, which starts from it
(both adversarial stages). Add `--resume` to go on after a stop. Sample grids appear in `samples/`.
"""
import argparse
import json
import time
import warnings
from pathlib import Path

import torch
from torch.utils.data import Subset

from msca.datasets import MixedScenes, ProceduralScenes, SceneFolder
from msca.labels import SCENE_LABELS
from msca.learner import TrainingConfig, TrainingRun
from msca.losses import LossWeights
from msca.parser import load_parser

FOLDERS = dict(siftflow=1, labelmefacade=1, stanford_background=1, msrc_v2=1, camvid=1)  # folder of $MSCA_DATA → repeats
PROCEDURAL = dict(photos=1000, procedural=2000)  # procedural scenes beside the photos, and alone
LARGEST = 3000  # photos of the second run, an even selection: what an hour of two cores allows


def sources(which, data):
    "Training and held-out scenes: photos split by place, procedural scenes by seed."
    own = ProceduralScenes(PROCEDURAL[which], 256, seed=1)
    if which == 'procedural': return own.split('train'), own.split('val')
    photos = MixedScenes([SceneFolder(Path(data)/name) for name in FOLDERS], list(FOLDERS.values()))
    both = MixedScenes([*photos.sources, own], [*photos.repeats, 1])
    return both.split('train'), photos.split('val')


def every(scenes, n):
    "An even selection of `n` scenes, from all folders."
    return Subset(scenes, [round(i*(len(scenes)-1)/(n-1)) for i in range(n)]) if n < len(scenes) else scenes


RECIPE = dict(
    small=dict(size=64, pretrain_epochs=6, warmup_epochs=2, epochs=(0, 0), batch_size=16, pretrain_lr=2e-3, lr=4e-4),
    full=dict(size=128, pretrain_epochs=0, warmup_epochs=0, epochs=(1, 1), batch_size=8))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('which', choices=['photos', 'procedural'])
    ap.add_argument('--data', help='folder with the photo sets')
    ap.add_argument('--perceptual-weights', required=True, help='SqueezeNet 1.0 weights under torchvision names')
    ap.add_argument('--parser', help='parser folder; without it the annotated maps serve on the exemplar side')
    ap.add_argument('--out', required=True, type=Path)
    ap.add_argument('--only', choices=['small', 'full'], help='just one of the two runs')
    ap.add_argument('--resume', action='store_true')
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    train, valid = sources(a.which, a.data)
    valid = every(valid, 32)
    parser = load_parser(a.parser)[0].parse if a.parser else None
    for name in [a.only] if a.only else ['small', 'full']:
        config = TrainingConfig(**RECIPE[name], generator_every=1, losses=LossWeights(1., 5., 4., 10., 1.), perceptual='squeezenet',
                                perceptual_weights=a.perceptual_weights, bf16=True, sample_every=150, checkpoint_every=150)
        init, photos = (a.out/'small', every(train, LARGEST)) if name == 'full' else (None, train)
        run = TrainingRun(a.out/name, photos, valid, SCENE_LABELS, config, parser=parser, init=init)
        if a.resume and (a.out/name/'training.pt').exists(): run.resume()
        start = time.time()
        run.run()
        with open(a.out/'time.jsonl', 'a') as f: f.write(json.dumps(dict(run=name, minutes=round((time.time()-start)/60, 1)))+'\n')


if __name__ == '__main__': main()
