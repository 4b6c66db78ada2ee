"""Photos of the day painted like photos of dusk and of snow, by TSIT between photos: trained, painted and measured.

    python benchmarks/style_transfer.py train --data $MSCA_DATA --perceptual-weights VGG19 --out RUN --minutes 60
    python benchmarks/style_transfer.py measure --data $MSCA_DATA --run RUN --alexnet ALEXNET --out results/style-transfer.json

The photos are SIFT Flow's. Their label maps only tell which are what: by day the sky is blue and the ground is no snow; at dusk the sky is red and yellow and the ground
dark; in snow mountains are white. Training photos are content (by day) and style (dusk and snow, in one network); the held-out ones are measured. The
run goes on from RUN/state.pt where it stopped. `measure` puts two others beside it: the content photo with the style photo's mean and deviation of every
Lab channel (Reinhard et al., 2001), and the shipped model of masked spatial-channel attention, which needs both photos' label maps, from its parser.
"""
import argparse
import json
import sys
import time
import warnings
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback, CancelFitException
from PIL import Image
from torch.utils.data import ConcatDataset, Subset

from msca import Synthesizer
from msca.base.files import write_whole
from msca.base.labels import SCENE_LABELS, resize_labels
from msca.base.palettes import rgb_to_lab
from msca.data.datasets import MixedScenes, SceneFolder
from msca.data.scene import Scene, image_to_tensor, tensor_to_image
from msca.evidence.perceptual import lpips_network
from msca.evidence.report import bootstrap_mean
from msca.learning.callbacks import EMA, DiscriminatorStep, recompute_batchnorm
from msca.learning.learner import EpochPosition
from msca.learning.losses import PerceptualLoss
from msca.learning.run import fit_learner
from msca.learning.samples import PhotoStore
from msca.model.checkpoint import load_synthesizer, save_synthesizer
from msca.model.synthesizer import build_synthesizer
from msca.relatives.style_transfer import UnpairedPhotos, style_transfer_learner, style_transfer_recipe, unpaired_loaders
from msca.relatives.tsit import TSITConfig

SIZE, KINDS = 128, ('day', 'dusk', 'snow')


def look_of(scene):
    "'day', 'dusk', 'snow' or None, by colors of sky and ground."
    ids = np.asarray(Image.fromarray(scene.labels).resize((64, 64), Image.Resampling.NEAREST))
    lab = rgb_to_lab(np.asarray(scene.image.resize((64, 64))))
    sky = ids == SCENE_LABELS.index('sky')
    if min(sky.sum(), (~sky).sum()) < 200: return None
    (_, sky_a, sky_b), (ground_light, _, _) = lab[sky].mean(0), lab[~sky].mean(0)
    white = ((lab[..., 0] > 70) & (np.hypot(lab[..., 1], lab[..., 2]) < 12))[~sky].mean()
    if white > .3: return 'snow'
    if sky_a > 2 and sky_b > 8 and ground_light < 45: return 'dusk'
    return 'day' if sky_b < -5 and ground_light > 35 and white < .1 else None


def kind_of(scene):
    "The look of a photo; white ground counts as snow where there are mountains, and not where it may be a beach or a street."
    look = look_of(scene)
    return None if look == 'snow' and (scene.labels == SCENE_LABELS.index('mountain')).mean() < .15 else look


def photos_by_kind(data, side):
    "SIFT Flow's photos of one side of the split, by kind."
    scenes = MixedScenes([SceneFolder(Path(data)/'siftflow')]).split(side)
    kinds = [kind_of(scenes[i]) for i in range(len(scenes))]
    return {kind: Subset(scenes, [i for i, k in enumerate(kinds) if k == kind]) for kind in KINDS}


class SaveAndShow(Callback):
    "At the end of an epoch a state, and now and then a grid of held-out photos."
    order, run_valid = 90, False
    def __init__(self, a, epoch, average, held_out): self.a, self.past, self.average, self.held_out, self.start = a, epoch, average, held_out, time.time()

    def after_train(self):
        self.past += 1
        with write_whole(self.a.out/'state.pt') as part: torch.save(state_of(self.learn, self.average, self.past), part)
        late = (time.time()-self.start)/60 > self.a.minutes
        if self.past % 4 == 0 or late:
            settled = ready(self.average.average, self.learn.dls.train)
            grid(settled, self.held_out).save(self.a.out/f'{self.past:04d}.jpg', quality=92)
            save_synthesizer(settled, SCENE_LABELS, SIZE, self.a.out/'model', dict(trained_with=dict(epochs=self.past, iterations=self.past*len(self.learn.dls.train))))
        print(f'epoch {self.past}: {float(self.learn.smooth_loss):.3f}', flush=True)
        if late: raise CancelFitException


def state_of(learn, average, epoch):
    step = learn.cbs.filter(lambda c: isinstance(c, DiscriminatorStep))[0]
    return dict(model=learn.model.state_dict(), average=average.average.state_dict(), n=average.n, discriminator=step.discriminator.state_dict(),
                opt=learn.opt.state_dict(), d_opt=step.d_opt.state_dict(), epoch=epoch)


def ready(average, batches, n=16):
    "A copy of the average, with batch statistics of its own."
    model = deepcopy(average)
    return recompute_batchnorm(model, (batch for batch, _ in zip(batches, range(n))))


def square(scene, size=SIZE):
    "A photo, shrunk to a square."
    return scene.image.resize((size, size), Image.Resampling.BICUBIC)


def transfer(model, content, style):
    "A photo in the style of another."
    c, s = (image_to_tensor(np.asarray(x))[None] for x in (content, style))
    with torch.inference_mode(): return tensor_to_image(model(c, s, torch.zeros(1, 1, SIZE, SIZE))[0])


def grid(model, held_out, seed=0, n=5):
    "Held-out photos of the day, painted like two of dusk and two of snow."
    rng = np.random.default_rng(seed)
    pick = lambda kind, k: [square(held_out[kind][int(i)]) for i in rng.permutation(len(held_out[kind]))[:k]]
    content, style = pick('day', n), pick('dusk', 2)+pick('snow', 2)
    rows = [[Image.new('RGB', (SIZE, SIZE), 'white'), *style]] + [[c, *(transfer(model, c, s) for s in style)] for c in content]
    return Image.fromarray(np.concatenate([np.concatenate([np.asarray(x) for x in row], 1) for row in rows]))


def train(a):
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(a.seed)
    a.out.mkdir(parents=True, exist_ok=True)
    known, held_out = photos_by_kind(a.data, 'train'), photos_by_kind(a.data, 'val')
    print({side: {k: len(v) for k, v in d.items()} for side, d in dict(train=known, held_out=held_out).items()}, flush=True)
    pairs = lambda d, **options: UnpairedPhotos(PhotoStore(d['day'], SIZE), PhotoStore(ConcatDataset([d['dusk'], d['snow']]), SIZE), a.seed, **options)
    dls = unpaired_loaders(pairs(known), pairs(held_out, flip=False), a.batch_size, a.seed)
    model = build_synthesizer('tsit', TSITConfig(len(SCENE_LABELS), content='photo', mean_color=True, content_weight=a.content), None)
    config = replace(style_transfer_recipe(SIZE, 10**6, a.batch_size), discriminator_width=32)  # half the authors', as the painter is smaller
    average = EMA(deepcopy(model), .998)
    start = torch.load(a.out/'state.pt', weights_only=True) if (a.out/'state.pt').exists() else dict(epoch=0)
    show = SaveAndShow(a, start['epoch'], average, held_out)
    learn = style_transfer_learner(dls, model, config, PerceptualLoss.distilled_vgg19(a.perceptual_weights), start['epoch']*len(dls.train),
                                   [EpochPosition(start['epoch'], seed=a.seed, iteration=start['epoch']*len(dls.train)), average, show])
    if start['epoch']:
        step = learn.cbs.filter(lambda c: isinstance(c, DiscriminatorStep))[0]
        for what, name in ((model, 'model'), (average.average, 'average'), (step.discriminator, 'discriminator'), (learn.opt, 'opt'), (step.d_opt, 'd_opt')):
            what.load_state_dict(start[name])
        average.n = start['n']
    fit_learner(learn, 10**6-start['epoch'], progress=False)
    print(f'stopped after {show.past} epochs of {len(dls.train)} iterations')


def by_statistics(content, style):
    "The content photo with the style photo's mean and deviation of every Lab channel (Reinhard et al., 2001)."
    c, s = (rgb_to_lab(np.asarray(x)) for x in (content, style))
    moved = (c-c.mean((0, 1)))*s.std((0, 1))/c.std((0, 1)).clip(1e-3)+s.mean((0, 1))
    return Image.fromarray(lab_to_rgb(moved))


def lab_to_rgb(lab):
    "CIE Lab under D65 as sRGB, uint8."
    y = (lab[..., 0]+16)/116
    f = np.stack([y+lab[..., 1]/500, y, y-lab[..., 2]/200], -1)
    xyz = np.where(f > 6/29, f**3, 3*(6/29)**2*(f-4/29))*np.array([.95047, 1., 1.08883])
    linear = xyz @ np.linalg.inv([[.4124564, .3575761, .1804375], [.2126729, .7151522, .0721750], [.0193339, .1191920, .9503041]]).T
    srgb = np.where(linear > .0031308, 1.055*linear.clip(1e-9)**(1/2.4)-.055, 12.92*linear)
    return (srgb*255).round().clip(0, 255).astype(np.uint8)


def painters(run):
    "What makes a picture of (content scene, style scene), by name."
    tsit, shipped = load_synthesizer(run/'model')[0].eval(), Synthesizer.load('scenes-256', 'cpu', quiet=True)
    ids = lambda scene: resize_labels(shipped.parse(scene.image), (256, 256))
    return {'TSIT': lambda c, s: transfer(tsit, square(c), square(s)),
            'statistics': lambda c, s: by_statistics(square(c), square(s)),
            'scenes-256': lambda c, s: shipped(ids(c), square(s, 256), size=256, exemplar_size=256).resize((SIZE, SIZE), Image.Resampling.BICUBIC)}


def look(picture):
    "Mean and deviation of the Lab channels: the color of a picture."
    lab = rgb_to_lab(np.asarray(picture)).reshape(-1, 3)
    return np.concatenate([lab.mean(0), lab.std(0)])


def told(picture, content, style, other, lpips):
    "What one picture shows."
    light = [rgb_to_lab(np.asarray(x))[..., 0].ravel() for x in (picture, square(content))]
    near = [np.linalg.norm(look(picture)-look(square(s))) for s in (style, other)]
    return dict(color=near[0], nearer_to_its_style=float(near[0] < near[1]), lightness=float(np.corrcoef(*light)[0, 1]), lpips_content=lpips(picture, square(content)),
                is_of_the_kind=float(look_of(Scene(picture, resize_labels(content.labels, (SIZE, SIZE)))) == look_of(style)))


def measure(a):
    held_out, rng, start = photos_by_kind(a.data, 'val'), np.random.default_rng(a.seed), time.time()
    network, paint = lpips_network('alex', a.alexnet), painters(a.run)
    lpips = lambda x, y: float(network(*(image_to_tensor(np.asarray(p))[None] for p in (x, y))))
    contents = [int(i) for i in rng.permutation(len(held_out['day']))[:a.photos]]
    rows, pictures, reached = {}, [], {}
    for kind in ('dusk', 'snow'):
        for k, i in enumerate(contents):
            mine, other = (held_out[kind][int(j)] for j in rng.permutation(len(held_out[kind]))[:2])
            made = {name: f(held_out['day'][i], mine) for name, f in paint.items()}
            for name, picture in made.items(): rows.setdefault(f'{kind}, {name}', []).append(told(picture, held_out['day'][i], mine, other, lpips))
            reached.setdefault(kind, {}).setdefault(mine.name, []).append(rows[f'{kind}, TSIT'][-1]['is_of_the_kind'])
            if k < 6: pictures.append([square(held_out['day'][i]), square(mine), *made.values()])
    scores = {name: {k: bootstrap_mean([r[k] for r in found])._asdict() for k in found[0]} for name, found in rows.items()}
    counts = {kind: {name: [int(sum(v)), len(v)] for name, v in sorted(d.items())} for kind, d in reached.items()}
    state = json.loads((a.run/'model'/'config.json').read_text())['trained_with']
    command = f'python benchmarks/style_transfer.py measure --data $MSCA_DATA --run RUN --alexnet ALEXNET --photos {a.photos} --seed {a.seed} --out results/{a.out.name}'
    about = dict(command=command, seed=a.seed, data='SIFT Flow, held out', trained=state, date=time.strftime('%Y-%m-%d'), minutes=round((time.time()-start)/60, 1),
                 photos={k: len(v) for k, v in held_out.items()}, in_losses="TSIT: the distilled VGG-19; scenes-256: that, EfficientNet-Lite0")
    with write_whole(a.out) as part: part.write_text(json.dumps(dict(made_by=about, scores=scores, reached_by_style_photo=counts), indent=1)+'\n')
    if a.sheet:
        small = lambda x: np.asarray(x.resize((96, 96), Image.Resampling.LANCZOS))
        Image.fromarray(np.concatenate([np.concatenate([small(x) for row in pictures[k::6] for x in row], 1) for k in range(6)])).save(a.sheet, quality=88)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = ap.add_subparsers(required=True, metavar='train | measure')
    p = commands.add_parser('train', help='until so many minutes have passed')
    p.add_argument('--perceptual-weights', required=True, help="local file of the distilled VGG-19")
    p.add_argument('--out', required=True, type=Path, help='folder of the run')
    p.add_argument('--minutes', type=float, default=1e9)
    p.add_argument('--batch-size', type=int, default=4)
    p.add_argument('--content', type=float, default=1., help='weight of the content term (default: 1)')
    p.set_defaults(do=train)
    p = commands.add_parser('measure', help='held-out photos')
    p.add_argument('--run', required=True, type=Path, help='folder of the run')
    p.add_argument('--out', required=True, type=Path, help='report')
    p.add_argument('--alexnet', required=True, help='weights of LPIPS on AlexNet')
    p.add_argument('--photos', type=int, default=24, help='content photos (default: 24)')
    p.add_argument('--sheet', type=Path, help='where to draw the first six')
    p.set_defaults(do=measure)
    for p in commands.choices.values():
        p.add_argument('--data', required=True, help='folder with siftflow/')
        p.add_argument('--seed', type=int, default=0)
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    a.do(a)


if __name__ == '__main__': sys.exit(main())
