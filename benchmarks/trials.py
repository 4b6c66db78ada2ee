"""One change of the recipe 'scenes' at a time: train a little from the kept phase, and measure the pictures of held-out photos.

    python benchmarks/trials.py --data $MSCA_DATA --weights $MSCA_WEIGHTS --runs RUNS --phase PHASE --out results/trials.json

Every trial but the one from scratch goes on from a kept phase (the recipe is that of iteration 2250: color 40, pixel .2, no chroma) with fresh optimizers for
the same number of iterations over the same samples; the learning rates fall over the second half. Its averaged painter then paints 36 held-out photos from
themselves, mirrored; differences are paired over photos,
against the trial that changes nothing (those with new discriminators, and the one from scratch: against the one that only has new discriminators). The trial
'other samples' changes nothing but the seed, and so tells how far luck goes. `minutes` are of processor time. A training of so few iterations shows where a
change pushes, not where it ends. The phase of iteration 2250, from which `results/trials.json` went on, is not kept; the default is that of the shipped model,
where `as is` is another recipe than the one it was trained with last. RUNS keeps the trainings; a trial that was measured is not repeated.
"""
import argparse
import json
import re
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from held_out import LIST, PER_PICTURE, Instruments, Questions, mirroring_row, question, sides
from train_scenes import SIDE

from msca import Synthesizer
from msca.evidence.report import bootstrap_mean
from msca.model.segmenter import load_segmenter
from msca.pretrained.models import PRETRAINED

ROOT = Path(__file__).parents[1]
PHASE, PHOTOS = ROOT/'benchmarks'/'phases'/'scenes-256', 12  # of each set
MEASURES = *PER_PICTURE, 'deeplab'
FRESH, SCRATCH = '--fresh-discriminators', '--scratch compact'  # the second: in place of the phase
TRIALS = {  # name → (changed settings, the trial that it is compared with)
    'as is': ('', None),
    'adversarial ×2': ('--adversarial 1.4 --pixel .4', 'as is'),
    'adversarial ×½': ('--adversarial .35 --pixel .1', 'as is'),
    'perceptual ×2': ('--perceptual 10', 'as is'),
    'color ×½': ('--color 20', 'as is'),
    'chroma': ('--chroma 20', 'as is'),
    'pixel ×3': ('--pixel .6', 'as is'),
    'LabelMix': ('--label-mix 1', 'as is'),
    'crops alone': ('--kinds crop,mirror', 'as is'),
    'whole photos alone': ('--kinds whole', 'as is'),
    'VGG-16 for the perceptual term': ('--perceptual-network vgg16 --perceptual-weights {weights}/lpips_vgg_fp16.npz', 'as is'),
    'two crops as exemplars': ('--kinds two,mirror,two,whole', 'as is'),
    'noise per class': ('--class-noise .3', 'as is'),
    'new discriminators': (FRESH, 'as is'),
    'new discriminators, exemplar beside the picture': (f'{FRESH} --pair', 'new discriminators'),
    'new discriminators on VGG-16': (f'{FRESH} --backbone vgg16 --backbone-weights {{weights}}/lpips_vgg_fp16.npz', 'new discriminators'),
    "new discriminators on DeepLab's network": (f'{FRESH} --backbone deeplab --backbone-weights {{weights}}/deeplab_ade32_int8.npz', 'new discriminators'),
    'from scratch': (f'{SCRATCH} --ramp 0', 'new discriminators'),
    'float32': ('--precision float32', 'as is'),
    'other samples': ('--seed 1', 'as is')}


def iteration(phase): return json.loads((phase/'phase.json').read_text())['iteration']


def run_folder(a, name): return a.runs/re.sub(r'[^\w×½]+', '-', name)


def train(name, a, folder):
    "The trial's training, unless it was done; minutes of processor time."
    told = folder/'minutes.json'
    if told.is_file(): return json.loads(told.read_text())
    start = {} if SCRATCH in TRIALS[name][0] else dict(phase=a.phase)
    first = iteration(a.phase) if start else 0
    last = first+a.iterations
    fixed = dict(start, data=a.data, perceptual_weights=f'{a.weights}/vgg19_small16x_fp16.npz', out=folder, cache=a.runs/'cache', color=40, chroma=0, pixel=.2,
                 decay=f'{first+a.iterations//2},{last}', average=.96, iterations=last, sample_every=last)
    changed = TRIALS[name][0].format(weights=a.weights)
    options = [x for k, v in fixed.items() for x in (f"--{k.replace('_', '-')}", str(v))] + changed.split()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, '-W', 'ignore', ROOT/'benchmarks'/'train_scenes.py', *options], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = round((after.ru_utime-before.ru_utime)/60, 1)
    told.write_text(json.dumps(minutes))
    return minutes


def measure(folder, questions, instruments):
    "Measure → value for every photo."
    s = Synthesizer.load(max((folder/'averages').iterdir()), 'cpu', quiet=True, segmenter=load_segmenter(PRETRAINED/'scenes-256')[0].parse)
    rows = []
    for i in range(len(questions)):
        scene = questions.scene(*questions.names[i][:2])
        item = question(scene)
        picture = s(scene, item.exemplar, size=SIDE, exemplar_size=SIDE)
        rows.append(mirroring_row(instruments, picture, item))
    return {k: [r[k] for r in rows] for k in MEASURES}


def interval(values):
    score = bootstrap_mean(np.asarray(values, float))
    return {k: round(getattr(score, k), 4) for k in ('value', 'low', 'high')}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('data', 'weights'): ap.add_argument(f'--{name}', required=True)
    for name in ('runs', 'out'): ap.add_argument(f'--{name}', required=True, type=Path)
    ap.add_argument('--phase', type=Path, default=PHASE, help='kept phase to start from (default: the committed one)')
    ap.add_argument('--iterations', type=int, default=80)
    ap.add_argument('--trials', nargs='+', choices=TRIALS, default=TRIALS, metavar='NAME', help='only these')
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    a.runs = a.runs.absolute()
    chosen = {k: dict(list(v.items())[:PHOTOS]) for k, v in json.loads(LIST.read_text())['sets'].items()}
    questions, instruments, found = Questions(chosen, sides(a.data), SIDE), Instruments(a.weights), {}
    for name in a.trials:
        folder = run_folder(a, name)
        folder.mkdir(parents=True, exist_ok=True)
        minutes, rows = train(name, a, folder), folder/'rows.json'
        if not rows.is_file(): rows.write_text(json.dumps(measure(folder, questions, instruments)))
        found[name] = json.loads(rows.read_text())
        print(name, minutes, {k: round(float(np.nanmean(v)), 4) for k, v in found[name].items()}, flush=True)
        report(a, found, {n: train(n, a, run_folder(a, n)) for n in found})


def networks(changed):
    "Frozen networks in the losses of a trial: measures that look through one of them or its kin favor it."
    words = changed.split()
    return [words[words.index(o)+1] if o in words else usual for o, usual in (('--backbone', 'efficientnet-lite0'), ('--perceptual-network', 'distilled_vgg19'))]


def report(a, found, minutes):
    "Means, and differences from the trial that each is compared with."
    trials = {}
    for name, rows in found.items():
        changed, against = TRIALS[name]
        changed = changed.format(weights='$MSCA_WEIGHTS')
        trials[name] = dict(changed=changed, networks_in_losses=networks(changed), minutes=minutes[name], means={k: interval(v)['value'] for k, v in rows.items()})
        if against in found: trials[name]['minus'] = {'of': against} | {k: interval(np.subtract(v, found[against][k])) for k, v in rows.items()}
    about = dict(command=f'python benchmarks/trials.py --data $MSCA_DATA --weights $MSCA_WEIGHTS --runs RUNS --phase PHASE --iterations {a.iterations} --out {a.out}', seed=0,
                 date=time.strftime('%Y-%m-%d'), torch=torch.__version__, hardware='one thread of a shared CPU', photos=3*PHOTOS,
                 iterations=a.iterations, from_iteration=iteration(a.phase),
                 data='SIFT Flow, LabelMe Facade, CamVid (trained on); SIFT Flow, LabelMe Facade, MSRC v2 (held out by place)')
    a.out.write_text(json.dumps(about | dict(trials=trials), indent=1, ensure_ascii=False)+'\n')


if __name__ == '__main__': main()
