"""Masked spatial-channel attention against global average pooling in its place, by the recipe of 'scenes' from random weights, two seeds each.

    python benchmarks/rival.py --data $MSCA_DATA --weights $MSCA_WEIGHTS --runs RUNS --iterations 400 --out results/rival.json

All runs see the same samples per seed, pre-train as long, spend the first three eighths without discriminators, and end with learning rates that fall over the
second half; a run that is there goes on. Their averages then paint held-out photos from themselves, mirrored. Differences are paired over photos, each photo's
value being the mean of its two seeds; how far two seeds of one model lie apart stands beside them.
"""
import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from held_out import LIST, Instruments, Questions, sides
from train_scenes import SIDE
from trials import MEASURES, ROOT, interval, measure

MODELS, SEEDS = ('msca', 'gap'), (0, 1)


def recipe(n):
    "Options of `train_scenes.py` for so many iterations."
    return dict(scratch='compact', color=35, chroma=12, pixel=.6, average=.99, reconstruct=3*n//8, ramp=n//8, decay=f'{n//2},{n}', iterations=n)


def train(a, variant, seed):
    "The folder of a finished run; `minutes.json` there are those of the processor."
    folder = a.runs/f'{variant}-{seed}'
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder/'minutes.json').is_file():
        options = dict(recipe(a.iterations), variant=variant, seed=seed, pretrain=a.pretrain, sample_every=a.iterations,
                       data=a.data, perceptual_weights=f'{a.weights}/vgg19_small16x_fp16.npz', cache=a.cache or a.runs/'cache', out=folder)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        words = [x for k, v in options.items() for x in (f"--{k.replace('_', '-')}", str(v))]
        subprocess.run([sys.executable, '-W', 'ignore', ROOT/'benchmarks'/'train_scenes.py', *words], check=True)
        (folder/'minutes.json').write_text(json.dumps(round((resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime-before)/60, 1)))
    return folder


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('data', 'weights'): ap.add_argument(f'--{name}', required=True)
    for name in ('runs', 'out'): ap.add_argument(f'--{name}', required=True, type=Path)
    ap.add_argument('--cache', type=Path, help='folder for decoded photos (default: in RUNS)')
    ap.add_argument('--iterations', type=int, default=400)
    ap.add_argument('--pretrain', type=int, default=600, help='iterations of attention pre-training (default: 600)')
    ap.add_argument('--photos', type=int, default=25, help='held-out photos of each of three sets (default: 25)')
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    a.runs = a.runs.absolute()
    chosen = {k: dict(list(v.items())[:a.photos]) for k, v in json.loads(LIST.read_text())['sets'].items()}
    questions, instruments, found, minutes = Questions(chosen, sides(a.data), SIDE), Instruments(a.weights), {}, {}
    for seed in SEEDS:
        for variant in MODELS:
            folder, name = train(a, variant, seed), f'{variant}, seed {seed}'
            if not (folder/'rows.json').is_file(): (folder/'rows.json').write_text(json.dumps(measure(folder, questions, instruments)))
            found[name], minutes[name] = json.loads((folder/'rows.json').read_text()), json.loads((folder/'minutes.json').read_text())
            print(name, minutes[name], {k: round(float(np.nanmean(v)), 4) for k, v in found[name].items()}, flush=True)
    report(a, found, minutes)


def report(a, found, minutes):
    "Means of every run, msca minus pooling, and how far seeds lie apart."
    mean = {m: {k: np.mean([found[f'{m}, seed {s}'][k] for s in SEEDS], 0) for k in MEASURES} for m in MODELS}
    apart = {m: {k: interval(np.subtract(*(found[f'{m}, seed {s}'][k] for s in SEEDS))) for k in MEASURES} for m in MODELS}
    about = dict(command=f'python benchmarks/rival.py --data $MSCA_DATA --weights $MSCA_WEIGHTS --runs RUNS --iterations {a.iterations} --pretrain {a.pretrain} '
                         f'--photos {a.photos} --out results/{a.out.name}', seeds=SEEDS, date=time.strftime('%Y-%m-%d'), torch=torch.__version__,
                 hardware='one thread of a shared CPU', photos=3*a.photos, networks_in_losses=['efficientnet-lite0', 'distilled_vgg19'], recipe=recipe(a.iterations),
                 data='SIFT Flow, LabelMe Facade, CamVid (trained on); SIFT Flow, LabelMe Facade, MSRC v2 (held out by place)')
    runs = {n: dict(minutes=minutes[n], means={k: interval(v) for k, v in rows.items()}) for n, rows in found.items()}
    difference = {k: interval(mean['msca'][k]-mean['gap'][k]) for k in MEASURES}
    a.out.write_text(json.dumps(about | dict(runs=runs, msca_minus_gap=difference, seed_0_minus_seed_1=apart), indent=1)+'\n')


if __name__ == '__main__': main()
