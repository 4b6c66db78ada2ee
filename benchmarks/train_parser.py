#!/usr/bin/env python
r"""Train one of the shipped parsers and score it on held-out scenes.

How the shipped ones were made (with OMP_NUM_THREADS=1; MSCA_DATA holds the folders of photos):

    python benchmarks/train_parser.py photos --encoder squeezenet1_0.npz --epochs 7 --balance 0 --out runs/parser_photos
    python benchmarks/train_parser.py procedural --procedural 2000 --epochs 12 --out runs/parser_procedural

Going on from a trained one, twice, with the rarer classes weighted up a little (the last is the parser of scenes-256 and scenes-256-v1):

    python benchmarks/train_parser.py photos --start runs/parser_photos --epochs 10 --lr 2e-3 --balance 0.1 --seed 1 --out runs/parser_photos_17_epochs
    python benchmarks/train_parser.py photos --start runs/parser_photos_17_epochs --epochs 14 --lr 2e-3 --balance 0.1 --seed 2 --out runs/parser_photos_31_epochs

Going on from DeepLab's published weights, which have learned ADE20K (benchmarks/phases/parser):

    python benchmarks/train_parser.py photos --network deeplab --encoder deeplab_ade32_int8.npz --epochs 5 --procedural 600 --size 192 --batch-size 8 \
        --lr 1e-3 --balance 0.1 --out runs/parser_deeplab

`photos` reads the folders siftflow, labelmefacade, stanford_background, msrc_v2 and camvid below $MSCA_DATA, mixes in procedural
scenes and starts from ImageNet weights (--encoder FILE, or torchvision's download without it). `procedural` sees procedural scenes
only and starts at random. Both write parser.safetensors, parser.json, parser_metrics.json and log.csv.
"""
import argparse
import json
import os
import time
from pathlib import Path

import torch
from fastai.callback.progress import CSVLogger
from shipped_measures import held_out_side

from msca.base.labels import SCENE_LABELS, UNLABELLED
from msca.data.datasets import MixedScenes, ProceduralScenes, SceneFolder
from msca.learning.segmenter_training import segmenter_accuracy, train_segmenter
from msca.model.segmenter import SegmenterConfig, load_segmenter, save_segmenter

PRETRAINED_ON = {'squeezenet': 'SqueezeNet 1.0, ImageNet', 'deeplab': 'DeepLab-v3+ on MobileNet-v2, ADE20K'}
FOLDERS = 'siftflow', 'labelmefacade', 'stanford_background', 'msrc_v2', 'camvid'


def photo_folder(path):
    "A folder in the shared labels. Stanford's `foreground` is any object, cars and people included, so it teaches nothing: unlabelled."
    folder = SceneFolder(path)
    if 'foreground' in folder.classes.classes: folder.table[folder.classes.index('foreground')] = UNLABELLED
    return folder


def scenes_of(kind, n_procedural, size, short_side):
    "Training scenes, and held-out scenes by source."
    procedural = ProceduralScenes(n_procedural, 3*size//2, seed=0)
    held_out = {'procedural': ProceduralScenes(100, short_side, seed=1)}
    if kind == 'procedural': return procedural, held_out
    folders = [photo_folder(Path(os.environ['MSCA_DATA'])/f) for f in FOLDERS]
    held_out |= {f.name: held_out_side(f) for f in folders}
    return MixedScenes([f.split('train') for f in folders] + [procedural]), held_out


def measure(parser, held_out, size, short_side):
    "Accuracy by source on whole scenes with one short side, and at the training size."
    return dict(short_side=short_side, held_out={k: segmenter_accuracy(parser, v, short_side) for k, v in held_out.items()},
                pixel_accuracy_at_training_size={k: segmenter_accuracy(parser, v, size)['pixel_accuracy'] for k, v in held_out.items()})


def arguments():
    "The command line."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('kind', choices=('photos', 'procedural'))
    p.add_argument('--out', required=True, help='folder to write')
    p.add_argument('--network', choices=('squeezenet', 'deeplab'), default='squeezenet')
    p.add_argument('--encoder', help='weights to start from (photos only): SqueezeNet 1.0 on ImageNet, which torchvision downloads otherwise, or DeepLab on ADE20K')
    p.add_argument('--start', help='folder of a parser to go on from')
    p.add_argument('--epochs', type=int, default=7)
    p.add_argument('--procedural', type=int, default=1200, help='number of procedural training scenes')
    p.add_argument('--size', type=int, default=128, help='side of the training samples, pixels')
    p.add_argument('--short-side', type=int, default=256, help='of the held-out scenes, pixels')
    p.add_argument('--width', type=int, default=64, help='decoder width')
    p.add_argument('--batch-size', type=int, default=16)
    p.add_argument('--lr', type=float, default=3e-3)
    p.add_argument('--balance', type=float, default=.4, help='of the classes: 0 all pixels alike, 1 all classes alike')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--float32', action='store_true', help='for processors without bfloat16')
    p.add_argument('--hardware', default='2-core CPU', help='named in the metrics')
    return p.parse_args()


def main():
    "Train, score, write."
    a, start = arguments(), time.time()
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', 1)))
    torch.set_flush_denormal(True)
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    train, held_out = scenes_of(a.kind, a.procedural, a.size, a.short_side)
    weights = None if a.kind == 'procedural' or a.start else a.encoder or 'torchvision'
    config = SegmenterConfig.for_size(len(SCENE_LABELS), a.size, a.width, a.network)
    watched = MixedScenes(list(held_out.values()))
    parser = train_segmenter(train, watched, config, a.epochs, a.size, a.batch_size, a.lr, a.balance, a.seed, weights,
                          a.start and load_segmenter(a.start)[0], not a.float32, progress=False, callbacks=[CSVLogger(out/'log.csv')])
    seconds = round(time.time() - start)
    save_segmenter(parser, SCENE_LABELS, out)
    command = f"OMP_NUM_THREADS=1 python benchmarks/train_parser.py {a.kind} --network {a.network} --epochs {a.epochs} --procedural {a.procedural} --size {a.size}"
    command += f" --width {a.width} --batch-size {a.batch_size} --lr {a.lr} --balance {a.balance} --seed {a.seed}"
    command += (' --encoder FILE' if a.encoder else '') + (' --start STAGE1' if a.start else '')
    metrics = dict(command=command, seed=a.seed, hardware=a.hardware, torch=torch.__version__, seconds=seconds, training_scenes=len(train),
                   updates=a.epochs*(len(train)//a.batch_size), data=train.name,
                   starts_from=PRETRAINED_ON[a.network] if weights else 'an earlier parser' if a.start else 'random weights',
                   parameters=sum(p.numel() for p in parser.parameters()), **measure(parser, held_out, a.size, a.short_side))
    (out/'parser_metrics.json').write_text(json.dumps(metrics, indent=1) + '\n')
    for name, f in metrics['held_out'].items(): print(f"{name:20s} n {f['n']:4d}  accuracy {f['pixel_accuracy']:.3f}  mean IoU {f['mean_iou']:.3f}")


if __name__ == '__main__': main()
