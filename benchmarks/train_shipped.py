"""Train the synthesizers that ship with the package.

    python benchmarks/train_shipped.py photos     --data $MSCA_DATA --perceptual-weights $WEIGHTS --parser PARSER --out RUN
    python benchmarks/train_shipped.py procedural --perceptual-weights $WEIGHTS --parser PARSER --out RUN

Runs in a row, each starting from the one before:

* `RUN/small`: 64×64, attention pre-training and reconstruction;
* `RUN/full`: 128×128, both adversarial stages;
* `RUN/more` (photos only): 128×128, a short pre-training and both stages again, longer, with more weight on features;
* `RUN/grain` (photos only): attention once more, then 128×128 patches, with a channel of noise from here on, and with more weight on color and texture;
* `RUN/large` (photos only): 256×256, whole photos; from here on the painter finds the picture's border continued outside, not zeros;
* `RUN/finish` (photos only): the same with less weight on the amount of texture and more on the discriminator, which learns faster;
* `RUN/smooth` (photos only): the same, longer, with bilinear up-sampling from here on, and the color of small windows in place of most of the weight on pixels.

What ships: scenes-256-v1 is RUN/smooth, scenes-128 is RUN/more, procedural-128 is RUN/full of `procedural`, each with its parser (ship.py).

`--only NAME --init CHECKPOINT` makes one of them from a checkpoint. Add `--resume` to go on after a stop.
"""
import argparse
import json
import time
import warnings
from pathlib import Path

import torch
from torch.utils.data import Subset

from msca.base.labels import SCENE_LABELS
from msca.data.datasets import MixedScenes, ProceduralScenes, SceneFolder
from msca.learning.recipe import LossWeights, TrainingConfig
from msca.learning.run import TrainingRun
from msca.learning.states import kept_states
from msca.model.segmenter import load_segmenter
from msca.model.synthesizer import find_variant

FOLDERS = ('siftflow', 'labelmefacade', 'stanford_background', 'msrc_v2', 'camvid')  # of $MSCA_DATA
PROCEDURAL = dict(photos=1000, procedural=2000)  # procedural scenes beside the photos, and alone
COMMON = dict(generator_every=1, losses=LossWeights(1., 5., 4., 10., 1.), perceptual='squeezenet', precision='bfloat16', sample_every=150, checkpoint_every=150)
PAINT = LossWeights(1., 3., 4., 20., 1., texture=8.)
WHOLE = dict(size=256, pretrain_epochs=0, warmup_epochs=0, epochs=(1, 0), stages=(3, 3), batch_size=4, pair_discriminator=False)
RECIPES = dict(
    small=dict(size=64, pretrain_epochs=6, warmup_epochs=2, epochs=(0, 0), batch_size=16, pretrain_lr=2e-3, lr=4e-4),
    full=dict(size=128, pretrain_epochs=0, warmup_epochs=0, epochs=(1, 1), batch_size=8),
    more=dict(size=128, pretrain_epochs=1, warmup_epochs=0, epochs=(2, 2), batch_size=8, pretrain_lr=1e-4, losses=LossWeights(1., 8., 6., 6., 1.)),
    grain=dict(size=128, pretrain_epochs=1, warmup_epochs=0, epochs=(1, 0), batch_size=8, pretrain_lr=5e-4, losses=PAINT),
    large=dict(WHOLE, losses=LossWeights(1., 2., 2., 30., 1., texture=12.)),
    finish=dict(WHOLE, losses=LossWeights(3., 2., 3., 30., 1., texture=6.), discriminator_lr=6e-4),
    smooth=dict(WHOLE, losses=LossWeights(3., 2., 3., 10., 1., texture=6., color=50.), discriminator_lr=6e-4))
RUNS = dict(procedural=['small', 'full'], photos=list(RECIPES))
SCENES = dict(full=3000, more=2400, grain=4000, large=600, finish=1200, smooth=3000)  # scenes of an epoch, an even selection: what an hour or so of one core allows
SHAPES = dict(  # what differs from the compact configuration
    grain=dict(noise=1), large=dict(noise=1, padding='replicate'), finish=dict(noise=1, padding='replicate'), smooth=dict(noise=1, padding='replicate', upsampling='bilinear'))
LARGE = ('siftflow', 'labelmefacade', 'camvid')  # photos that hold 256×256


def sources(which, data, run):
    "Training and held-out scenes: photos split by place, procedural scenes by seed."
    own = ProceduralScenes(PROCEDURAL[which], 256, seed=1)
    if which == 'procedural': return own.split('train'), own.split('val')
    photos = MixedScenes([SceneFolder(Path(data)/name) for name in (LARGE if RECIPES[run]['size'] == 256 else FOLDERS)])
    return MixedScenes([*photos.sources, own]).split('train'), photos.split('val')


def every(scenes, n):
    "An even selection of `n` scenes, from all folders."
    return Subset(scenes, [round(i*(len(scenes)-1)/(n-1)) for i in range(n)]) if n < len(scenes) else scenes


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('which', choices=list(RUNS))
    ap.add_argument('--data', help='folder with the photo sets')
    ap.add_argument('--perceptual-weights', required=True, help='SqueezeNet 1.0 weights under torchvision names')
    ap.add_argument('--parser', help='parser folder; without it the annotated maps serve on the exemplar side')
    ap.add_argument('--variant', default='msca', help="of the synthesizer: 'gap' makes the rival")
    ap.add_argument('--out', required=True, type=Path)
    ap.add_argument('--only', choices=list(RECIPES), help='just one of the runs')
    ap.add_argument('--init', help='with --only: the checkpoint to start from (default: the run before)')
    ap.add_argument('--resume', action='store_true', help='go on after a stop; finished runs are passed over')
    a = ap.parse_args()
    if a.init and not a.only: ap.error('--init wants --only: which run is to start from it')
    if a.only and a.only not in RUNS[a.which]: ap.error(f"{a.which} has the runs {', '.join(RUNS[a.which])}, not {a.only}")
    if a.which == 'photos' and not a.data: ap.error('photos wants --data')
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    parser = load_segmenter(a.parser)[0].parse if a.parser else None
    order = RUNS[a.which]
    for name in [a.only] if a.only else order:
        train, valid = sources(a.which, a.data, name)
        config = TrainingConfig(**{**COMMON, 'perceptual_weights': a.perceptual_weights, **RECIPES[name]})
        init = a.init or (a.out/order[order.index(name)-1] if name != 'small' else None)
        shape = find_variant(a.variant).config(len(SCENE_LABELS), **SHAPES.get(name, {}))
        run = TrainingRun(a.out/name, every(train, SCENES.get(name, len(train))), every(valid, 32), SCENE_LABELS, config, shape, segmenter=parser, init=init, variant=a.variant)
        if a.resume and kept_states(a.out/name): run.resume()
        start, done = time.time(), run.iteration
        print(run.describe(), flush=True)
        run.run(progress=False)
        if run.iteration == done: continue
        with open(a.out/'time.jsonl', 'a') as f:
            f.write(json.dumps(dict(run=name, minutes=round((time.time()-start)/60, 1), minutes_in_all=round(run.seconds/60, 1)))+'\n')
        if run.stopped: break


if __name__ == '__main__': main()
