"""Measure a model on a fixed list of photos that no training saw, and compare it with another one, photo by photo.

    W="--data $MSCA_DATA --weights $MSCA_WEIGHTS"
    python benchmarks/held_out.py --model scenes-256 $W --out results/held-out-scenes-256.json
    python benchmarks/held_out.py --model RUN/best --against results/held-out-scenes-256.json $W --out results/held-out-new.json
    python benchmarks/held_out.py --references $W --out results/held-out-references.json

The list, `results/held_out.json`, holds names: 40 photos of SIFT Flow, 20 of LabelMe Facade, 15 of MSRC from the held-out sides of the splits by
place, each with four exemplars of other places; `--write-list` made it from a seed, and `--full` takes all held-out photos in its place. Exemplars
are bare photos: the model's own segmenter reads them. Measured:

* *mirroring*: every photo from itself, mirrored. LPIPS (VGG, Alex), PSNR, SSIM, color distance, high-frequency energy relative to the truth, copying
  (how much nearer to the exemplar than to the truth, LPIPS-Alex), and DeepLab's accuracy on the picture beside that on the photo;
* *exemplars*: how often the right exemplar comes nearer to the truth than the first of the four others, by color and by LPIPS-Alex;
* *swaps*: every photo's layout in the style of its four exemplars. Fréchet distance, precision and recall between these pictures and the exemplars'
  photos, in AlexNet's and in EfficientNet-Lite0's pooled features (64 numbers each). Never called FID.

With `--against`, a report of this script or another model, differences are paired over photos, with 95 % bootstrap intervals; for ratios of Fréchet
distances the interval comes from leaving out groups of photos with all their swaps. The weights folder holds `lpips_vgg_fp16.npz`,
`lpips_alex_fp16.npz`, `efficientnet_lite0_fp16.npz` and `deeplab_ade32_int8.npz`; without it networks are downloaded where that is possible, and what
cannot be had is told and left out. `--references` measures pictures that no model painted, in the same way. A run that was stopped goes on with the
same command: what was measured lies in OUT.part until the end.
"""
import argparse
import json
import os
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from deeplab import Judge
from PIL import ImageOps

from msca import SCENE_LABELS, Synthesizer
from msca.base.labels import InputError
from msca.data.cache import weights_digest
from msca.data.lookalikes import fit_scene
from msca.data.places import place_of
from msca.data.published import open_dataset
from msca.evidence.distributions import coverage, frechet_distance
from msca.evidence.metrics import Backbones, build_metrics, family, loss_networks
from msca.evidence.protocol import PROTOCOL, ImageMetric, Unavailable, picture_batch
from msca.evidence.references import REFERENCES
from msca.evidence.report import bootstrap_mean
from msca.evidence.tasks import TaskItem
from msca.model.checkpoint import read_config
from msca.pretrained.models import model_folder

ROOT = Path(__file__).parents[1]
LIST, SEED, EXEMPLARS = ROOT/'results'/'held_out.json', 0, 4
NUMBERS = dict(siftflow=40, labelmefacade=20, msrc_v2=15)  # photos of a set on the list
SAME_PHOTO = {'1_26_s'}  # msrc_v2 holds this photo twice; its twin 9_10_s is a training photo
PER_PICTURE = ('lpips_vgg', 'lpips_alex', 'psnr', 'ssim', 'color', 'high_frequency', 'copying')
BETTER = dict(lpips_vgg=-1, lpips_alex=-1, psnr=1, ssim=1, color=-1, copying=-1, deeplab=1)  # 1: higher is better
NETWORKS = dict(lpips_vgg='vgg16', lpips_alex='alexnet', copying='alexnet', alexnet='alexnet', efficientnet='efficientnet-lite0', deeplab='deeplab')
FILES = dict(vgg16='lpips_vgg_fp16.npz', alexnet='lpips_alex_fp16.npz', efficientnet='efficientnet_lite0_fp16.npz')


def sides(data, label_set=SCENE_LABELS):
    "Set → its held-out side, without photos that are training photos under another name."
    found = {name: open_dataset(Path(data)/name, None, label_set).split('val') for name in NUMBERS}
    for side in found.values(): side.names = [n for n in side.names if n not in SAME_PHOTO]
    return found


def drawn_list(held_out, numbers):
    "Photos by seed, each with exemplars of other places of its set: set → name → names."
    out = {}
    for k, (name, side) in enumerate(held_out.items()):
        rng = np.random.default_rng((SEED, k))
        photos = [side.names[i] for i in rng.permutation(len(side.names))[:numbers.get(name)]]
        others = {p: [n for n in side.names if place_of(n) != place_of(p)] for p in photos}
        out[name] = {p: [others[p][i] for i in rng.permutation(len(others[p]))[:EXEMPLARS]] for p in photos}
    return out


def check_list(chosen, held_out):
    "`InputError` where a photo of the list is not on the held-out side."
    for name, photos in chosen.items():
        seen = [p for p in {*photos, *(x for xs in photos.values() for x in xs)} if p not in set(held_out[name].names)]
        if seen: raise InputError(f"{LIST.name}: {len(seen)} photos of {name} are not held out by the present split (first: {seen[0]}); a training may have seen them")


class Questions:
    "The photos of the list, at one size."
    def __init__(self, chosen, held_out, size):
        self.held_out, self.size, self.numbers = held_out, size, {n: {p: i for i, p in enumerate(s.names)} for n, s in held_out.items()}
        self.names = [(name, photo, exemplars) for name, photos in chosen.items() for photo, exemplars in photos.items()]

    def scene(self, name, photo): return fit_scene(self.held_out[name][self.numbers[name][photo]], self.size)

    def __len__(self): return len(self.names)

    def __getitem__(self, i):
        "(the photo's `Scene`, its exemplars' `Scene`s)."
        name, photo, exemplars = self.names[i]
        return self.scene(name, photo), [self.scene(name, x) for x in exemplars]


class Instruments:
    "Metrics, networks of sets and the judge; what cannot be had is in `unavailable`."
    def __init__(self, folder):
        where = {k: str(Path(folder)/f) for k, f in FILES.items() if folder and (Path(folder)/f).is_file()}
        built = build_metrics((*PER_PICTURE, 'frechet_alexnet', 'frechet_efficientnet'), Backbones(**where))
        self.unavailable = [str(m) for m in built if isinstance(m, Unavailable)]
        self.metrics = {m.name: m for m in built if isinstance(m, ImageMetric)}
        self.features = {m.network: m.extract for m in built if not isinstance(m, (ImageMetric, Unavailable))}
        judge = Path(folder or '.')/'deeplab_ade32_int8.npz'
        self.judge = Judge(judge, SCENE_LABELS) if judge.is_file() else None
        if self.judge is None: self.unavailable += ['deeplab: not measured, --weights has no deeplab_ade32_int8.npz']

    def __call__(self, name, picture, *answers):
        "A metric of one picture; NaN where it cannot be measured."
        m = self.metrics.get(name)
        if m is None: return float('nan')
        answer = picture_batch(answers)
        return float(m(picture_batch([picture]), answer[None] if m.against == 'truth and exemplar' else answer)[0])

    def vector(self, network, picture):
        with torch.inference_mode(): return self.features[network](picture_batch([picture]))[0].numpy()


def mirroring_row(instruments, picture, item):
    "What is measured of a picture that has a truth."
    row = {n: instruments(n, picture, item.truth, *([item.exemplar] if n == 'copying' else [])) for n in PER_PICTURE}
    return row | dict(deeplab=instruments.judge.accuracy(picture, item.layout) if instruments.judge else float('nan'))


def question(scene):
    "A photo and its mirrored self as a report's question."
    exemplar = ImageOps.mirror(scene.image)
    return TaskItem(scene.labels, exemplar, np.ascontiguousarray(scene.labels[:, ::-1]), scene.image, scene.name, f'{scene.name} mirrored')


class Measured:
    "Rows of a model, one per photo, and feature vectors of its swaps."
    def __init__(self, rows=(), vectors=None): self.rows, self.vectors = list(rows), vectors or {}  # network → {'pictures', 'photos'} → photos×exemplars×64

    def scores(self, network, photos=slice(None)):
        "Fréchet distance, precision and recall of the swaps of some photos."
        pictures, true = (np.concatenate(np.asarray(self.vectors[network][k])[photos]) for k in ('pictures', 'photos'))
        return frechet_distance(pictures, true), coverage(pictures, true), coverage(true, pictures)


def vectors_of(instruments, pictures, photos):
    "Network → feature vectors of painted pictures and of photos."
    return {net: {k: [instruments.vector(net, p).tolist() for p in v] for k, v in (('pictures', pictures), ('photos', photos))} for net in instruments.features}


def ask_model(s, instruments, scene, exemplars):
    "What is measured of a model on one photo: (row, vectors)."
    item, judge, photos = question(scene), instruments.judge, [x.image for x in exemplars]
    picture, swaps = s(scene, item.exemplar), [s(scene, x) for x in photos]
    row = mirroring_row(instruments, picture, item) | {f'{n}_other': instruments(n, swaps[0], scene.image) for n in ('lpips_alex', 'color')}
    return row | dict(deeplab_photo=judge.accuracy(scene.image, scene.labels) if judge else float('nan')), vectors_of(instruments, swaps, photos)


def ask_reference(paint, instruments, scene, exemplars):
    "The same of pictures that nobody painted; their sets are made of the exemplars' photos, as a model's are of swaps."
    item = question(scene)
    return mirroring_row(instruments, paint(item), item), vectors_of(instruments, [paint(question(x)) for x in exemplars], [x.image for x in exemplars])


def lines_of(part, key):
    "What a run of the same kind that was stopped has written, but for a line that was cut short."
    text = part.read_text() if part.is_file() else ''
    lines = [json.loads(line) for line in text[:text.rfind('\n')+1].splitlines()]
    return lines[1:] if lines and lines[0] == key else []


def measure(questions, asks, out, key):
    "Name → `Measured`, for functions from (photo, exemplars) to (row, vectors) by name; `key` tells a run from others."
    part, key = Path(f'{out}.part'), json.loads(json.dumps([key, questions.size, questions.names]))
    done = lines_of(part, key)
    part.write_text(''.join(json.dumps(x)+'\n' for x in (key, *done)))
    with part.open('a') as f:
        for i in range(len(done), len(questions)):
            done.append({name: ask(*questions[i]) for name, ask in asks.items()})
            f.write(json.dumps(done[-1])+'\n')
            f.flush()
            print(f"\r{i+1}/{len(questions)}", end='\n'*(i+1 == len(questions)), file=sys.stderr, flush=True)
    keys = [dict(set=name, name=photo) for name, photo, _ in questions.names]
    stacked = lambda name: {net: {k: [x[name][1][net][k] for x in done] for k in v} for net, v in done[0][name][1].items()}
    return {name: Measured([k | x[name][0] for k, x in zip(keys, done)], stacked(name)) for name in asks}


def column(rows, key): return np.array([r.get(key, np.nan) for r in rows], float)


def mean(values):
    "With its interval; None where nothing was measured."
    score = bootstrap_mean(values)._asdict()
    return None if not np.isfinite(score['value']) else {k: x for k, x in score.items() if k != 'n'}


def swap_scores(found):
    "Network → scores of all swaps."
    n = {k: np.asarray(v['pictures']).shape[:2] for k, v in found.vectors.items()}
    sizes = {net: dict(pictures=int(np.prod(k)), numbers=64, few=bool(np.prod(k) < 640)) for net, k in n.items()}
    return {net: dict(zip(('frechet', 'precision', 'recall'), found.scores(net))) | sizes[net] for net in found.vectors}


def summary(found, rows=None):
    "Means with intervals, shares, and scores of swaps."
    rows = found.rows if rows is None else rows
    col = lambda key: column(rows, key)
    out = dict(photos=len(rows), mirroring={k: mean(col(k)) for k in (*PER_PICTURE, 'deeplab')} | dict(high_frequency_median=float(np.median(col('high_frequency')))))
    if 'color_other' in rows[0]:
        out['right_exemplar_nearer'] = {k: float((col(k) < col(f'{k}_other')).mean()) for k in ('color', 'lpips_alex') if np.isfinite(col(k)).any()}
        seen = {k: float(np.nanmean(col(c))) for k, c in (('pictures', 'deeplab'), ('photos', 'deeplab_photo')) if np.isfinite(col(c)).any()}
        if seen: out['deeplab'] = seen | dict(ratio=seen['pictures']/seen['photos'])
    return out


def by_set(found): return {name: summary(found, [r for r in found.rows if r['set'] == name]) for name in dict.fromkeys(r['set'] for r in found.rows)}


def frechet_ratio(new, old, network, groups=15):
    "Fréchet distance of one model over the other's; the 95 % interval is from leaving out groups of photos, as drawing photos twice makes distances larger."
    value, n = new.scores(network)[0]/old.scores(network)[0], len(new.rows)
    left_out = [np.flatnonzero(np.arange(n) % groups != g) for g in range(min(groups, n))]
    logs = np.log([new.scores(network, some)[0]/old.scores(network, some)[0] for some in left_out])
    error = np.sqrt((len(logs)-1)/len(logs)*((logs-logs.mean())**2).sum())
    return dict(value=value, low=value*np.exp(-1.96*error), high=value*np.exp(1.96*error))


def compared(new, old):
    "New minus old, photo by photo; Fréchet distances as new over old."
    if [(r['set'], r['name']) for r in new.rows] != [(r['set'], r['name']) for r in old.rows]: raise InputError('--against: was measured on other photos')
    out = {k: mean(column(new.rows, k)-column(old.rows, k)) for k in (*PER_PICTURE, 'deeplab')}
    out |= {f'better_in_{k}': float((sign*(column(new.rows, k)-column(old.rows, k)) > 0).mean()) for k, sign in BETTER.items() if out[k] is not None}
    for net in new.vectors:
        if net in old.vectors: out[f'frechet_{net}_ratio'] = frechet_ratio(new, old, net)
    return out


def marked(losses):
    "Measures whose network, or its kin, was in the model's losses."
    return sorted(k for k, n in NETWORKS.items() if family(n) in {family(x) for x in losses or ()})


def rounded(x):
    "Floats to 4 digits and NaN to None, through nested containers."
    if isinstance(x, dict): return {k: rounded(v) for k, v in x.items()}
    if isinstance(x, list): return [rounded(v) for v in x]
    return (round(float(x), 4) if np.isfinite(x) else None) if isinstance(x, (float, np.floating)) else x


def vectors_path(out): return Path(out).with_suffix('.vectors.npz')  # beside the report; comparisons of Fréchet distances read it


def keep_vectors(found, out):
    np.savez(vectors_path(out), **{f'{net}.{what}': np.asarray(v, np.float16) for net, sets in found.vectors.items() for what, v in sets.items()})


def read_measured(path):
    "A report of this script as `Measured`; without the vectors where that file is gone."
    found, about = Measured(), json.loads(Path(path).read_text())
    found.rows = [{k: np.nan if v is None else v for k, v in r.items()} for r in about['rows']]
    if vectors_path(path).is_file():
        for k, v in np.load(vectors_path(path)).items(): found.vectors.setdefault(k.split(".")[0], {})[k.split(".")[1]] = v.astype(np.float64)
    return found


def measured_model(name, questions, instruments, out):
    "`Measured` of a report's file, a shipped model or a checkpoint folder, and the model's name and losses."
    if str(name).endswith('.json'): return read_measured(name), Path(name).name, None
    s = Synthesizer.load(name, 'cpu', quiet=True)
    def paint(scene, exemplar): return s(scene, exemplar, size=questions.size, exemplar_size=questions.size)
    return measure(questions, {'model': partial(ask_model, paint, instruments)}, out, weights_digest(s.model))['model'], s.name, loss_networks(read_config(model_folder(name)))


def arguments():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = ap.add_mutually_exclusive_group(required=True)
    what.add_argument('--model', metavar='NAME|DIR', help="a shipped model or a checkpoint folder")
    what.add_argument('--references', action='store_true', help='instead of a model: class means, the mirrored truth, blur, shift')
    what.add_argument('--write-list', action='store_true', help=f'draw the list anew and write {LIST.relative_to(ROOT)}')
    ap.add_argument('--against', metavar='NAME|DIR|JSON', help='another model, or what this script wrote of it')
    ap.add_argument('--data', default=os.environ.get('MSCA_DATA'), help='folder with the photo sets (default: $MSCA_DATA)')
    ap.add_argument('--weights', default=os.environ.get('MSCA_WEIGHTS'), help="folder with the networks' weights (default: $MSCA_WEIGHTS)")
    ap.add_argument('--size', type=int, default=256, help='side of pictures and exemplars (default: 256)')
    ap.add_argument('--full', action='store_true', help='all held-out photos, not only those of the list')
    ap.add_argument('--n', type=int, metavar='N', help='only the first N photos of every set, to try the script')
    ap.add_argument('--out', type=Path, help='report to write')
    a = ap.parse_args()
    if not a.data: ap.error('--data is needed, or $MSCA_DATA')
    if not a.write_list and not a.out: ap.error('--out is needed')
    return a


def made_by(a, start):
    argv = ' '.join({a.data: '$MSCA_DATA', a.weights: '$MSCA_WEIGHTS'}.get(x, x) for x in sys.argv[1:])
    return dict(command=f'python benchmarks/held_out.py {argv}', list='all held-out photos' if a.full else str(LIST.relative_to(ROOT)), seed=SEED,
                data='SIFT Flow, LabelMe Facade, MSRC v2 (outdoor), held out by place', date=time.strftime('%Y-%m-%d'), torch=torch.__version__,
                hardware=f'one thread of a shared CPU, nice {os.nice(0)}', seconds=round(time.time()-start), cpu_seconds=round(time.process_time()), ssim=PROTOCOL['ssim'])


def main():
    a, start = arguments(), time.time()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    held_out = sides(a.data)
    if a.write_list:
        about = dict(what='held-out photos, each with four exemplars of other places', command='python benchmarks/held_out.py --write-list --data $MSCA_DATA')
        LIST.write_text(json.dumps(about | dict(seed=SEED, sets=drawn_list(held_out, NUMBERS)), indent=1)+'\n')
        return
    chosen = drawn_list(held_out, {}) if a.full else json.loads(LIST.read_text())['sets']
    check_list(chosen, held_out)
    if a.n: chosen = {k: dict(list(v.items())[:a.n]) for k, v in chosen.items()}
    questions, instruments = Questions(chosen, held_out, a.size), Instruments(a.weights)
    print(*instruments.unavailable, sep='\n', end='\n'*bool(instruments.unavailable))
    if a.references:
        found = measure(questions, {name: partial(ask_reference, paint, instruments) for name, paint in REFERENCES.items()}, a.out, 'references')
        report = dict(references={name: summary(m) | dict(swaps=swap_scores(m)) for name, m in found.items()})
    else:
        new, name, losses = measured_model(a.model, questions, instruments, a.out)
        report = dict(model=name, size=a.size, networks_in_losses=losses, in_losses=marked(losses), **summary(new), swaps=swap_scores(new), sets=by_set(new))
        keep_vectors(new, a.out)
        if a.against:
            old, against, _ = measured_model(a.against, questions, instruments, f'{a.out}.against')
            report['against'] = dict(model=against, **compared(new, old))
    report |= dict(unavailable=instruments.unavailable, made_by=made_by(a, start))
    if not a.references: report['rows'] = new.rows
    text = json.dumps(rounded({k: v for k, v in report.items() if k != 'rows'}), indent=1)
    if 'rows' in report: text = text[:-2] + ',\n "rows": [\n  ' + ',\n  '.join(json.dumps(rounded(r)) for r in report['rows']) + '\n ]\n}'
    a.out.write_text(text+'\n')
    for part in (f'{a.out}.part', f'{a.out}.against.part'): Path(part).unlink(missing_ok=True)


if __name__ == '__main__':
    try: main()
    except InputError as e: sys.exit(f'held_out.py: {e}')
