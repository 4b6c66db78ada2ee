"""Measure what `msca adapt` gains on photos that no training saw: twelve of `results/held_out.json`, chosen by a seed.

    python benchmarks/adapt.py --data $MSCA_DATA --weights $MSCA_WEIGHTS --out results/adapt.json

Every photo is parsed, and a strip at its left or right, three eighths of its width, is cut off. The model is tuned to what remains, as the command
does it. Then the whole layout is painted from what remains, by the model before and after, and the strip is compared with the true one: LPIPS on
VGG-16 and on AlexNet, PSNR, color, high-frequency energy relative to the truth. Layouts of four other held-out scenes are painted in the photo's
style, and read by the model's own segmenter, in whose encoder the recipe compares pictures, and by DeepLab, which no loss sees: the share of pixels
whose class is found. All of it is told after over before.

The recipe was found with other photos of the list. `--pictures DIR` writes what was painted, to be looked at; these pictures are not committed.
Times are those of the process, on one thread. A run that was stopped goes on with the same command: what was measured lies in OUT.part until the end.
"""
import argparse
import json
import os
import resource
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from deeplab import Judge
from held_out import FILES, LIST, sides
from PIL import Image

from msca import SCENE_LABELS, Synthesizer
from msca.base.files import write_whole
from msca.evidence.metrics import Backbones, build_metrics
from msca.evidence.protocol import picture_batch
from msca.evidence.report import bootstrap_mean
from msca.model.features import STRIDE
from msca.pretrained.adaptation import adaptation_recipe, adapted, begin_adaptation

SEED, PHOTOS, OTHERS = 0, 12, 4
MEASURES = 'lpips_vgg', 'lpips_alex', 'psnr', 'color', 'high_frequency'


def chosen(n):
    "(set, name) of the photos, and of the scenes whose layouts are painted in their styles."
    names = [(name, photo) for name, photos in json.loads(LIST.read_text())['sets'].items() for photo in photos]
    order = np.random.default_rng(SEED).permutation(len(names))
    return [names[i] for i in order[:n]], [names[i] for i in order[-OTHERS:]]


def find(data, name, photo): return data[name][data[name].names.index(photo)]


def strips(width, left):
    "Columns that are cut off, and those that remain."
    n = width*3//8//STRIDE*STRIDE
    return (slice(0, n), slice(n, width)) if left else (slice(width-n, width), slice(0, width-n))


class Question:
    "A photo without a strip, and what is asked about it."
    def __init__(self, s, scene, left, layouts, instruments):
        self.ready, self.layouts, self.instruments = s.read_exemplar(scene.image), layouts, instruments
        self.cut, self.rest = strips(self.ready.ids.shape[1], left)
        self.photo, self.ids = (np.ascontiguousarray(a[:, self.rest]) for a in (self.ready.photo, self.ready.ids))

    def pictures(self, s):
        "The photo's layout from what remains of it, and other layouts in its style."
        style = s.encode(self.photo, self.ids, size=0)
        return s.paint(self.ready.ids, style, size=0), [s.paint(layout, style) for layout in self.layouts]

    def __call__(self, s):
        "Numbers, and the pictures."
        picture, others = self.pictures(s)
        strip, truth = (picture_batch([Image.fromarray(np.ascontiguousarray(np.asarray(p)[:, self.cut]))]) for p in (picture, self.ready.photo))
        found = {m.name: float(m(strip, truth)[0]) for m in self.instruments['metrics']}
        found['parser'] = float(np.mean([(s.parse(p) == c.unpadded)[c.unpadded < 255].mean() for p, c in zip(others, self.layouts)]))
        found['deeplab'] = float(np.nanmean([self.instruments['judge'].accuracy(p, c.unpadded) for p, c in zip(others, self.layouts)]))
        return found, (picture, *others)


def sheet(question, before, after):
    "The photo; below, what the model painted before and after: its layout, then others."
    rows = [Image.fromarray(question.ready.photo)], before, after
    out = Image.new('RGB', (sum(p.width for p in before), sum(max(p.height for p in row) for row in rows)), 'white')
    y = 0
    for row in rows:
        x = 0
        for p in row:
            out.paste(p, (x, y))
            x += p.width
        y += max(p.height for p in row)
    return out


def measure(a, s, scene, left, layouts, instruments, name):
    "A row of the report."
    question = Question(s, scene, left, layouts, instruments)
    before, painted = question(s)
    start = time.process_time()
    learned = begin_adaptation(s, question.photo, question.ids, size=0, config=replace(adaptation_recipe(s), **a.set))
    learned.work(float('inf'), 60*a.minutes)
    seconds = time.process_time()-start
    after, repainted = question(adapted(s, learned, name))
    if a.pictures:
        a.pictures.mkdir(parents=True, exist_ok=True)
        sheet(question, painted, repainted).save(a.pictures/f'{name}.png')
    return dict(photo=name, cut='left' if left else 'right', before=before, after=after, iterations=learned.iteration, seconds=round(seconds, 1))


def mean(values):
    "With its 95 % bootstrap interval over photos."
    score = bootstrap_mean(np.array(values, float))._asdict()
    return {k: round(float(x), 4) for k, x in score.items() if x is not None and k != 'n'}


def summary(rows):
    "After over before, photo by photo; PSNR as a difference."
    out = {k: mean([r['after'][k]/r['before'][k] for r in rows]) for k in rows[0]['before'] if k != 'psnr'}
    off = lambda r, when: abs(np.log(r[when]['high_frequency']))
    return out | dict(psnr_difference=mean([r['after']['psnr']-r['before']['psnr'] for r in rows]),
                      high_frequency_median=[round(float(np.median([r[w]['high_frequency'] for r in rows])), 3) for w in ('before', 'after')],
                      high_frequency_nearer=float(np.mean([off(r, 'after') < off(r, 'before') for r in rows])),
                      better={k: sum(r['after'][k] < r['before'][k] for r in rows) for k in ('lpips_vgg', 'lpips_alex')})


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--data', default=os.environ.get('MSCA_DATA'), help='folder with the photo sets (default: $MSCA_DATA)')
    ap.add_argument('--weights', default=os.environ.get('MSCA_WEIGHTS'), type=Path, help="folder with the networks' weights (default: $MSCA_WEIGHTS)")
    ap.add_argument('--model', default='scenes-256')
    ap.add_argument('--minutes', type=float, default=60, help='of the clock, at most; all iterations of the recipe take less than one of a core')
    ap.add_argument('--photos', type=int, default=PHOTOS)
    ap.add_argument('--set', type=json.loads, default={}, help="settings of the recipe as JSON, such as '{\"lr\": 1e-4}'")
    ap.add_argument('--pictures', type=Path)
    ap.add_argument('--out', required=True, type=Path)
    a, begun = ap.parse_args(), time.time()
    if not a.data or not a.weights: ap.error('--data and --weights are needed, or $MSCA_DATA and $MSCA_WEIGHTS')
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    data, (photos, others), s = sides(a.data), chosen(a.photos), Synthesizer.load(a.model, 'cpu', quiet=True)
    where = {k: str(a.weights/FILES[k]) for k in ('vgg16', 'alexnet')}
    instruments = dict(metrics=build_metrics(MEASURES, Backbones(**where)), judge=Judge(a.weights/'deeplab_ade32_int8.npz', SCENE_LABELS))
    layouts, part = [s.read_layout(find(data, *o).labels) for o in others], Path(f'{a.out}.part')
    rows = [json.loads(line) for line in part.read_text().splitlines()] if part.is_file() else []
    for i, (name, photo) in enumerate(photos[len(rows):], len(rows)):
        rows.append(measure(a, s, find(data, name, photo), i % 2 == 0, layouts, instruments, photo))
        with part.open('a') as f: f.write(json.dumps(rows[-1])+'\n')
        print(json.dumps(rows[-1]), flush=True)
    config = replace(adaptation_recipe(s), **a.set).to_dict()
    told = dict(what='msca adapt: a strip of a photo painted from the rest of it, before and after tuning', model=a.model,
                command='python benchmarks/adapt.py --data $MSCA_DATA --weights $MSCA_WEIGHTS --out results/adapt.json' + (f" --set '{json.dumps(a.set)}'" if a.set else ''),
                seed=SEED, date=time.strftime('%Y-%m-%d'), torch=torch.__version__, minutes_at_most=a.minutes, recipe=config,
                data='held-out photos of results/held_out.json: SIFT Flow, LabelMe Facade, MSRC v2 (outdoor)',
                networks_in_losses="SqueezeNet: the encoder of the model's own segmenter",
                hardware=f'one thread of a shared CPU, nice {os.nice(0)}', peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss//1024,
                seconds=round(time.time()-begun), after_over_before=summary(rows), photos=rows)
    with write_whole(a.out) as out: out.write_text(json.dumps(told, indent=1)+'\n')
    part.unlink(missing_ok=True)
    print(json.dumps(told['after_over_before']))


if __name__ == '__main__': main()
