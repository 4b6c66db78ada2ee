"""Is it worth installing? A model on held-out photos against simple rivals: `python benchmarks/held_out.py MODEL --data $MSCA_DATA --weights $WEIGHTS --size 256 --out results/NAME.json`.

Every photo is painted from its mirrored self (the right exemplar) and from another place's photo (a random one). Measured, per photo set:

* PSNR with either exemplar, with the right one under its annotated map in place of the parsed one, and of painting: each class with its true mean color, each class with its mean color in the exemplar as parsed, everything with the photo's;
* how often the right exemplar comes nearer to the truth than the random one, in SqueezeNet distance and in distance of color histograms, and how often the model comes nearer than class means do;
* high-frequency energy of the picture, as a share of the truth's (standard deviation of the 3×3 Laplacian of luma; median);
* pixel accuracy of the model's parser on pictures and on photos (the parser is in no generator loss);
* with `--against OTHER`, the paired difference to another model in SqueezeNet distance to the truth.
"""
import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
import torch

from msca import SCENE_LABELS, Synthesizer
from msca.datasets import place_of
from msca.labels import UNLABELLED
from msca.metrics import Backbones, build_metrics, high_frequency_ratio, picture_batch, psnr
from msca.published import open_dataset
from msca.report import bootstrap_mean
from msca.tasks import fit_scene


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
        truth, batch = picture_batch([scene.image]), {k: picture_batch([p]) for k, p in pictures.items()}
        known = scene.labels != UNLABELLED
        row = {f'psnr_{k}': float(psnr(p, truth)) for k, p in batch.items()} | {f'distance_{k}': float(distance(p, truth)) for k, p in batch.items()}
        row |= {f'histogram_{k}': histogram_distance(pictures[k], scene.image) for k in ('right', 'random')}
        row |= dict(high_frequency=float(high_frequency_ratio(batch['right'], truth)), parser_on_pictures=float((s.parse(pictures['right']) == scene.labels)[known].mean()),
                    parser_on_photos=float((s.parse(scene.image) == scene.labels)[known].mean()))
        rows.append(row)
    return rows


def summary(rows, rivals):
    "Means, shares, medians; intervals where they are asked for."
    col = lambda k: np.array([r[k] for r in rows])
    mean = lambda v: {k: round(x, 4) for k, x in bootstrap_mean(v)._asdict().items() if k != 'n'}
    out = dict(photos=len(rows), psnr={k: mean(col(f'psnr_{k}')) for k in ('right', 'random', 'annotated', 'class_means', 'parsed_class_means', 'flat')},
               right_nearer_than_random=dict(squeezenet=float((col('distance_right') < col('distance_random')).mean()), histogram=float((col('histogram_right') < col('histogram_random')).mean())),
               nearer_than_class_means=float((col('distance_right') < col('distance_class_means')).mean()),
               high_frequency_median=round(float(np.median(col('high_frequency'))), 3),
               parser=dict(pictures=mean(col('parser_on_pictures')), photos=mean(col('parser_on_photos')), ratio=round(float(col('parser_on_pictures').mean()/col('parser_on_photos').mean()), 3)))
    for name in rivals: out[f'{name}_minus_model_squeezenet'] = mean(col(f'distance_right_{name}')-col('distance_right'))
    return out


def pick(source, n, size, rng):
    "Held-out scenes, each with a photo of another place."
    side = source.split('val')
    for i in rng.permutation(len(side))[:n]:
        j = next(int(j) for j in rng.permutation(len(side)) if place_of(side.names[j]) != place_of(side.names[i]))
        yield fit_scene(side[int(i)], size), fit_scene(side[j], size).image


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('model')
    ap.add_argument('--against', help='another model')
    ap.add_argument('--data', required=True)
    ap.add_argument('--sets', default='siftflow,labelmefacade,msrc_v2')
    ap.add_argument('--weights', required=True, help='SqueezeNet 1.0, torchvision names')
    ap.add_argument('--size', type=int, default=256)
    ap.add_argument('--n', type=int, help='photos of a set (default: all that are held out)')
    ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--out', type=Path, required=True)
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    start = time.time()
    load = lambda name: (lambda m: lambda *x: m(*x, size=a.size, exemplar_size=a.size))(Synthesizer.load(name, 'cpu', quiet=True))
    s, (distance,) = Synthesizer.load(a.model, 'cpu', quiet=True), build_metrics(('squeezenet_distance',), Backbones(squeezenet=a.weights))
    s.size = a.size
    rivals, found = {'rival': load(a.against)} if a.against else {}, {}
    for name in a.sets.split(','):
        rows = measure(s, pick(open_dataset(Path(a.data)/name, None, SCENE_LABELS), a.n, a.size, np.random.default_rng(a.seed)), distance, rivals)
        found[name] = summary(rows, rivals)
        print(name, json.dumps(found[name]), flush=True)
    argv = ' '.join({a.data: '$MSCA_DATA', a.weights: '$WEIGHTS'}.get(x, x) for x in sys.argv[1:])
    about = dict(command=f'python benchmarks/held_out.py {argv}', seed=a.seed, date=time.strftime('%Y-%m-%d'), hardware='one thread of a shared CPU', torch=torch.__version__,
                 seconds=round(time.time()-start), held_out='by place')
    a.out.write_text(json.dumps(dict(made_by=about, model=s.name, size=a.size, sets=found), indent=1)+'\n')


if __name__ == '__main__': main()
