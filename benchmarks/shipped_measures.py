"""Measure a shipped model on scenes that no training saw: `python benchmarks/shipped_measures.py MODEL [--data $MSCA_DATA --weights $WEIGHTS] --out results/NAME.json`.

Exemplars are given as bare photos: their label maps are parsed. On procedural scenes, and as far as it applies on photos of the first set:

* restyling: a procedural layout in the style of another procedural scene has an exact answer; PSNR with the right exemplar against another style's,
  and high-frequency energy of the picture with the right one, as below;
* color: for classes that two scenes share, is the picture's mean Lab color nearer to the given exemplar's than to a random other scene's;
* layout: pixel accuracy of the parser on pictures against their layouts, and on the originals (the parser is in no generator loss);
* attention: entropies of α and β against log HW and log K.

With `--data`, every held-out photo is painted from its mirrored self (the right exemplar) and from another place's photo (a random one). Measured, per photo set:

* PSNR with either exemplar, and with the right one under its annotated map in place of the parsed one; of painting: each class with its true
  mean color, each class with its mean color in the exemplar as parsed, everything with the photo's;
  and of the picture with the right exemplar after its texture was taken away (blurred), or its classes were moved to their true mean colors: what texture and colors cost;
* how often the right exemplar comes nearer to the truth than the random one, in SqueezeNet distance and in distance of color histograms, and
  how often the model comes nearer than class means do;
* high-frequency energy of the picture, as a share of the truth's (standard deviation of the 3×3 Laplacian of luma; median);
* pixel accuracy of the model's parser on pictures and on photos;
* with `--against OTHER`, the paired differences to another model in SqueezeNet distance to the truth and in PSNR. (`gap-256` of results/msca-against-gap.json is what
  `train_shipped.py photos --variant gap` leaves in RUN/smooth, with the parser of scenes-256-v1 beside it; `gap-full` and `msca-full` of
  results/msca-against-gap-two-runs.json are RUN/full with and without it, the latter by a development version.)
"""
import argparse
import json
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from msca import SCENE_LABELS, Synthesizer
from msca.base.labels import UNLABELLED
from msca.base.palettes import rgb_to_lab
from msca.data.layouts import procedural_layout
from msca.data.lookalikes import fit_scene
from msca.data.places import place_of
from msca.data.published import open_dataset
from msca.data.render import render
from msca.data.styles import procedural_style
from msca.evidence.metrics import Backbones, build_metrics
from msca.evidence.protocol import high_frequency_ratio, picture_batch, psnr
from msca.evidence.report import bootstrap_mean
from msca.model.attention import attention_entropy

SAME_PHOTO = {'1_26_s'}  # msrc_v2 holds this photo twice; its twin 9_10_s is a training photo
HELD_OUT = 9_000_000  # first seed of procedural scenes that no training used


def restyling(s, n):
    "PSNR (dB) with the right and with another style's exemplar, and high-frequency energy as a share of the truth's, over n procedural scenes."
    right, wrong, texture = [], [], []
    for i in range(n):
        a, b, c = (procedural_layout(HELD_OUT+3*i+k) for k in range(3))
        style, other = procedural_style(HELD_OUT+2*i), procedural_style(HELD_OUT+2*i+1)
        scene = render(a, style, s.size)
        for values, exemplar in ((right, render(b, style, s.size)), (wrong, render(c, other, s.size))):
            picture, truth = (picture_batch([x]) for x in (s(scene.labels, exemplar.image), scene.image))
            values.append(float(psnr(picture, truth)))
            if values is right: texture.append(float(high_frequency_ratio(picture, truth)))
    return dict(n=n, psnr_right=np.mean(right), psnr_other=np.mean(wrong), difference=np.mean(right)-np.mean(wrong), right_is_better=np.mean(np.array(right) > wrong),
                high_frequency_median=np.median(texture))


def class_colors(image, labels, share=.02):
    "Mean Lab color of every class that covers at least `share` of the picture."
    lab = rgb_to_lab(np.asarray(image))
    return {int(k): lab[labels == k].mean(0) for k in np.unique(labels) if k != UNLABELLED and (labels == k).mean() >= share}


def at_size(scene, size):
    "A held-out scene with the given short side."
    return scene.resize(size) if min(scene.size) != size else scene


def swapping(s, scenes, n, rng):
    "`color`: the share of pairs whose common classes come out nearer to the given exemplar than to a random other scene. `layout`: the parser's accuracies."
    nearer, on_output, on_photo, tries = [], [], [], 0
    while len(nearer) < n and tries < 20*n:
        tries += 1
        a, b, c = (at_size(scenes[int(i)], s.size) for i in rng.choice(len(scenes), 3, replace=False))
        stats = [class_colors(x.image, x.labels) for x in (a, b, c)]
        shared = set.intersection(*(set(m) for m in stats))
        if not shared: continue
        out = s(a, b.image)
        got = class_colors(out, a.labels)
        weight = {k: (a.labels == k).mean() for k in shared}
        distance = [sum(weight[k]*np.linalg.norm(got[k]-m[k]) for k in shared) for m in stats[1:]]
        nearer.append(distance[0] < distance[1])
        known = a.labels != UNLABELLED
        on_output.append((s.parse(out) == a.labels)[known].mean())
        on_photo.append((s.parse(a.image) == a.labels)[known].mean())
    return dict(n=len(nearer), color=dict(nearer_to_given=np.mean(nearer)),
                layout=dict(parser_on_pictures=np.mean(on_output), parser_on_originals=np.mean(on_photo), ratio=np.mean(on_output)/np.mean(on_photo)))


@torch.inference_mode()
def entropies(s, scenes, n, rng):
    "Mean attention entropies per scale (nats), with their maxima."
    rows = []
    for i in rng.choice(len(scenes), n, replace=False):
        x = at_size(scenes[int(i)], s.size)
        y = at_size(scenes[int(rng.integers(len(scenes)))], s.size)
        onehot, mask = s.read_layout(x).tensors(s.device)
        _, maps = s.model.transfer(onehot, *s.read_exemplar(y.image).tensors(s.device), mask)
        rows.append([[*(float(e) for e in attention_entropy(m.alpha, m.beta)), math.log(m.alpha[0, 0].numel()), math.log(m.alpha.shape[1])] for m in maps])
    names = ('alpha', 'beta', 'alpha_uniform', 'beta_uniform')
    return [dict(zip(names, map(float, scale))) for scale in np.mean(rows, 0)]


def class_means(scene):
    "The photo with every class painted in its mean color; unlabelled pixels in theirs."
    a, out = np.asarray(scene.image, float), np.zeros((*scene.labels.shape, 3))
    for k in np.unique(scene.labels): out[scene.labels == k] = a[scene.labels == k].mean(0)
    return Image.fromarray(out.round().astype(np.uint8))


def parsed_class_means(scene, exemplar, ids):
    "The layout with every class in its mean color in the exemplar, as far as the parser's map shows it; the exemplar's mean elsewhere."
    a = np.asarray(exemplar, float)
    out = np.broadcast_to(a.mean((0, 1)), a.shape).copy()
    for k in np.intersect1d(scene.labels, ids): out[scene.labels == k] = a[ids == k].mean(0)
    return Image.fromarray(out.round().astype(np.uint8))


def recolored(scene, picture):
    "The picture with every class moved to its true mean color."
    truth, out = np.asarray(scene.image, float), np.array(picture, float)
    for k in np.unique(scene.labels): out[scene.labels == k] += truth[scene.labels == k].mean(0) - out[scene.labels == k].mean(0)
    return Image.fromarray(out.clip(0, 255).round().astype(np.uint8))


def flat(scene):
    "The photo's mean color everywhere."
    return Image.new('RGB', scene.image.size, tuple(int(v) for v in np.asarray(scene.image, float).mean((0, 1)).round()))


def histogram(picture):
    "RGB histogram with 8 bins a channel, summing to 1."
    h, _ = np.histogramdd(np.asarray(picture).reshape(-1, 3), bins=(8,)*3, range=((0, 256),)*3)
    return h/h.sum()


def histogram_distance(a, b): return float(np.abs(histogram(a)-histogram(b)).sum()/2)  # 0…1


def mirrored(scene): return Image.fromarray(np.ascontiguousarray(np.asarray(scene.image)[:, ::-1]))


def measure(s, scenes, distance, rivals):
    "Rows of numbers, one per scene; `scenes` are (scene, a photo of another place)."
    rows = []
    for scene, other in scenes:
        exemplar, ids = mirrored(scene), np.ascontiguousarray(scene.labels[:, ::-1])
        pictures = dict(right=s(scene, exemplar), random=s(scene, other), annotated=s(scene, exemplar, ids), class_means=class_means(scene),
                        parsed_class_means=parsed_class_means(scene, exemplar, s.parse(exemplar)), flat=flat(scene),
                        **{f'right_{name}': r(scene, exemplar) for name, r in rivals.items()})
        pictures |= dict(blurred=pictures['right'].filter(ImageFilter.GaussianBlur(2)), recolored=recolored(scene, pictures['right']))
        truth, batch = picture_batch([scene.image]), {k: picture_batch([p]) for k, p in pictures.items()}
        known = scene.labels != UNLABELLED
        row = {f'psnr_{k}': float(psnr(p, truth)) for k, p in batch.items()}
        row |= {f'distance_{k}': float(distance(batch[k], truth)) for k in ('right', 'random', 'class_means', *(f'right_{name}' for name in rivals))}
        row |= {f'histogram_{k}': histogram_distance(pictures[k], scene.image) for k in ('right', 'random')}
        row |= dict(high_frequency=float(high_frequency_ratio(batch['right'], truth)), parser_on_pictures=float((s.parse(pictures['right']) == scene.labels)[known].mean()),
                    parser_on_photos=float((s.parse(scene.image) == scene.labels)[known].mean()))
        rows.append(row)
    return rows


def mean(values): return {k: x for k, x in bootstrap_mean(values)._asdict().items() if k != 'n'}  # with its interval


def summary(rows, rivals):
    "Means, shares, medians; intervals where they are asked for."
    col = lambda k: np.array([r[k] for r in rows])
    out = dict(photos=len(rows), psnr={k: mean(col(f'psnr_{k}')) for k in ('right', 'random', 'annotated', 'blurred', 'recolored', 'class_means', 'parsed_class_means', 'flat')},
               right_nearer_than_random=dict(squeezenet=float((col('distance_right') < col('distance_random')).mean()),
                                             histogram=float((col('histogram_right') < col('histogram_random')).mean())),
               nearer_than_class_means=float((col('distance_right') < col('distance_class_means')).mean()),
               high_frequency_median=float(np.median(col('high_frequency'))),
               parser=dict(pictures=mean(col('parser_on_pictures')), photos=mean(col('parser_on_photos')),
                           ratio=float(col('parser_on_pictures').mean()/col('parser_on_photos').mean())))
    for name in rivals:
        out |= {f'{name}_minus_model_{short}': mean(col(f'{what}_right_{name}')-col(f'{what}_right')) for what, short in (('distance', 'squeezenet'), ('psnr', 'psnr'))}
    return out


def held_out_side(source):
    "A folder's held-out photos, without those that are training photos under another name."
    side = source.split('val')
    side.names = [name for name in side.names if name not in SAME_PHOTO]
    return side


def pick(source, n, size, rng):
    "Held-out scenes, each with a photo of another place."
    side = held_out_side(source)
    for i in rng.permutation(len(side))[:n]:
        j = next(int(j) for j in rng.permutation(len(side)) if place_of(side.names[j]) != place_of(side.names[i]))
        yield fit_scene(side[int(i)], size), fit_scene(side[j], size).image


def rounded(x):
    "Floats to 4 digits, through nested containers."
    if isinstance(x, dict): return {k: rounded(v) for k, v in x.items()}
    if isinstance(x, list): return [rounded(v) for v in x]
    return round(float(x), 4) if isinstance(x, (float, np.floating)) else x


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('model', help="a shipped model's name or a checkpoint folder")
    ap.add_argument('--against', help='another model, painting the same photos; wants --data')
    ap.add_argument('--data', help='folder with the photo sets; without it only procedural scenes are measured')
    ap.add_argument('--sets', default='siftflow,labelmefacade,msrc_v2', help='folders of --data, comma-separated; photos are swapped in the first')
    ap.add_argument('--weights', help='SqueezeNet 1.0, torchvision names; wanted with --data')
    ap.add_argument('--size', type=int, help="short side of pictures and exemplars (default: the model's)")
    ap.add_argument('--n', type=int, help='photos of a set (default: all that are held out)')
    ap.add_argument('--pairs', type=int, default=50, help='of procedural scenes, and of photos to swap (default: 50; 0: none)')
    ap.add_argument('--seed', type=int, default=0, help='of what is picked')
    ap.add_argument('--out', type=Path, required=True)
    a = ap.parse_args()
    if bool(a.data) != bool(a.weights) or a.against and not a.data: ap.error('--data and --weights belong together, and --against wants both')
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    start, s, new = time.time(), Synthesizer.load(a.model, 'cpu', quiet=True), lambda: np.random.default_rng(a.seed)
    s.size = a.size or s.size
    report = dict(model=s.name, size=s.size)
    if a.pairs:
        drawn = [render(procedural_layout(HELD_OUT+500_000+i), procedural_style(HELD_OUT+600_000+i), s.size) for i in range(60)]
        report['procedural'] = dict(restyling=restyling(s, a.pairs), swapping=swapping(s, drawn, a.pairs, new()), entropies=entropies(s, drawn, 20, new()))
    if a.data:
        (distance,) = build_metrics(('squeezenet_distance',), Backbones(squeezenet=a.weights))
        load = lambda name: (lambda m: lambda *x: m(*x, size=s.size, exemplar_size=s.size))(Synthesizer.load(name, 'cpu', quiet=True))
        rivals, sets, found = {'rival': load(a.against)} if a.against else {}, {name: open_dataset(Path(a.data)/name, None, SCENE_LABELS) for name in a.sets.split(',')}, {}
        for name, photos in sets.items():
            found[name] = summary(measure(s, pick(photos, a.n, s.size, new()), distance, rivals), rivals)
            print(name, json.dumps(rounded(found[name])), flush=True)
        report['sets'] = found
        if a.pairs:
            photos = held_out_side(next(iter(sets.values())))
            report['photos'] = dict(set=next(iter(sets)), swapping=swapping(s, photos, a.pairs, new()), entropies=entropies(s, photos, 20, new()))
    argv = ' '.join({a.data: '$MSCA_DATA', a.weights: '$WEIGHTS'}.get(x, x) for x in sys.argv[1:])
    report['made_by'] = dict(command=f'python benchmarks/shipped_measures.py {argv}', seed=a.seed,
                             date=time.strftime('%Y-%m-%d'), hardware='one thread of a shared CPU', torch=torch.__version__,
                             seconds=round(time.time()-start), held_out='by place (photos), by seed (procedural)')
    a.out.write_text(json.dumps(rounded(report), indent=1)+'\n')


if __name__ == '__main__': main()
