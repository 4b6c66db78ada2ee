"""Measure a shipped model on held-out scenes: `python benchmarks/evaluate_shipped.py NAME [--data $MSCA_DATA] --out results/NAME.json`.

* restyling: a procedural layout in the style of another procedural scene has an exact answer; PSNR with the right exemplar against another style's;
* colour: for classes that both photos share, is the output's mean Lab colour nearer to the given exemplar's than to a random other photo's;
* layout: pixel accuracy of the parser on the outputs against the layouts, and on the real photos (the parser is in no generator loss);
* mirroring: PSNR of a held-out photo painted from its mirrored self;
* attention: entropies of α and β against log HW and log K.
Exemplars are given as bare photos: their label maps are parsed.
"""
import argparse
import datetime
import json
import math
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from msca.attention import attention_entropy
from msca.datasets import SceneFolder
from msca.labels import rgb_to_lab
from msca.procedural import procedural_layout, procedural_style, render
from msca.pretrained import Synthesizer

HELD_OUT = 9_000_000  # first seed of procedural scenes that no training used


def psnr(a, b):
    "PSNR in dB of two PIL pictures."
    mse = np.mean((np.asarray(a, float)-np.asarray(b, float))**2)
    return 10*math.log10(255**2/max(mse, 1e-9))


def restyling(s, n):
    "PSNR (dB) with the right and with another style's exemplar, over n procedural scenes."
    right, wrong = [], []
    for i in range(n):
        a, b, c = (procedural_layout(HELD_OUT+3*i+k) for k in range(3))
        style, other = procedural_style(HELD_OUT+2*i), procedural_style(HELD_OUT+2*i+1)
        truth, layout = render(a, style, s.size).image, render(a, style, s.size).labels
        right.append(psnr(s(layout, render(b, style, s.size).image), truth))
        wrong.append(psnr(s(layout, render(c, other, s.size).image), truth))
    return dict(n=n, psnr_right=np.mean(right), psnr_other=np.mean(wrong), difference=np.mean(right)-np.mean(wrong), right_is_better=np.mean(np.array(right) > wrong))


def class_means(image, labels, share=.02):
    "Mean Lab colour of every class that covers at least `share` of the picture."
    lab = rgb_to_lab(np.asarray(image))
    return {int(k): lab[labels == k].mean(0) for k in np.unique(labels) if k != 255 and (labels == k).mean() >= share}


def at_size(scene, size):
    "A held-out scene with the given short side."
    return scene.resize(size) if min(scene.size) != size else scene


def colour(s, scenes, n, rng):
    "Share of pairs whose shared classes come out nearer to the given exemplar than to a random other photo; and the parser's accuracies."
    nearer, on_output, on_photo, tries = [], [], [], 0
    while len(nearer) < n and tries < 20*n:
        tries += 1
        a, b, c = (at_size(scenes[int(i)], s.size) for i in rng.choice(len(scenes), 3, replace=False))
        stats = [class_means(x.image, x.labels) for x in (a, b, c)]
        shared = set.intersection(*(set(m) for m in stats))
        if not shared: continue
        out = s(a, b.image)
        got = class_means(out, a.labels)
        weight = {k: (a.labels == k).mean() for k in shared}
        distance = [sum(weight[k]*np.linalg.norm(got[k]-m[k]) for k in shared) for m in stats[1:]]
        nearer.append(distance[0] < distance[1])
        known = a.labels != 255
        on_output.append((s.parse(out) == a.labels)[known].mean())
        on_photo.append((s.parse(a.image) == a.labels)[known].mean())
    return (dict(n=len(nearer), nearer_to_given=np.mean(nearer)),
            dict(n=len(nearer), parser_on_outputs=np.mean(on_output), parser_on_photos=np.mean(on_photo), ratio=np.mean(on_output)/np.mean(on_photo)))


def mirroring(s, scenes, n, rng):
    "PSNR (dB) of photos painted from their mirrored selves, and from a random other photo."
    right, wrong = [], []
    picks = [at_size(scenes[int(i)], s.size) for i in rng.choice(len(scenes), min(n, len(scenes)), replace=False)]
    for i, x in enumerate(picks):
        mirrored = Image.fromarray(np.ascontiguousarray(np.asarray(x.image)[:, ::-1]))
        right.append(psnr(s(x, mirrored), x.image))
        wrong.append(psnr(s(x, picks[i-1].image), x.image))
    return dict(n=len(picks), psnr_mirrored=np.mean(right), psnr_other=np.mean(wrong))


@torch.inference_mode()
def entropies(s, scenes, n, rng):
    "Mean attention entropies per scale (nats), with their maxima."
    rows = []
    for i in rng.choice(len(scenes), n, replace=False):
        x = at_size(scenes[int(i)], s.size)
        y = at_size(scenes[int(rng.integers(len(scenes)))], s.size)
        onehot, mask, _ = s.prepare_layout(x)
        _, maps = s.model.transfer(onehot, *s.prepare_exemplar(y.image), mask)
        rows.append([[*(float(e) for e in attention_entropy(m.alpha, m.beta)), math.log(m.alpha[0, 0].numel()), math.log(m.alpha.shape[1])] for m in maps])
    names = ('alpha', 'beta', 'alpha_uniform', 'beta_uniform')
    return [dict(zip(names, map(float, scale))) for scale in np.mean(rows, 0)]


def rounded(x):
    "Floats to 4 digits, through nested containers."
    if isinstance(x, dict): return {k: rounded(v) for k, v in x.items()}
    if isinstance(x, list): return [rounded(v) for v in x]
    return round(float(x), 4) if isinstance(x, (float, np.floating)) else x


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('model', help="a shipped model's name or a checkpoint folder")
    ap.add_argument('--data', help='folder with the photo sets; without it only procedural scenes are measured')
    ap.add_argument('--sets', default='siftflow,labelmefacade,stanford_background,msrc_v2', help='photo sets for mirroring')
    ap.add_argument('--n', type=int, default=50)
    ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--out', required=True)
    a = ap.parse_args()
    start, s = time.time(), Synthesizer.load(a.model, device='cpu', quiet=True)
    new = lambda: np.random.default_rng(a.seed)
    procedural = [render(procedural_layout(HELD_OUT+500_000+i), procedural_style(HELD_OUT+600_000+i), s.size) for i in range(60)]
    report = dict(model=s.name, restyling=restyling(s, a.n), entropies_procedural=entropies(s, procedural, 20, new()))
    report['colour_procedural'], report['layout_procedural'] = colour(s, procedural, a.n, new())
    if a.data:
        sets = {name: SceneFolder(Path(a.data)/name, s.label_set).split('val') for name in a.sets.split(',')}
        report['colour_photos'], report['layout_photos'] = colour(s, sets['siftflow'], a.n, new())
        report['mirroring'] = {name: mirroring(s, scenes, a.n, new()) for name, scenes in sets.items()}
        report['entropies_photos'] = entropies(s, sets['siftflow'], 20, new())
    argv = ' '.join(x.replace(a.data, '$MSCA_DATA') if a.data else x for x in sys.argv[1:])
    report['made_by'] = dict(command=f'python benchmarks/evaluate_shipped.py {argv}', seed=a.seed, date=str(datetime.date.today()), hardware='2-core CPU',
                             torch=torch.__version__, python=platform.python_version(), seconds=round(time.time()-start), held_out='by place (photos), by seed (procedural)')
    Path(a.out).write_text(json.dumps(rounded(report), indent=1)+'\n')
    print(json.dumps(rounded(report), indent=1))


if __name__ == '__main__': main()
