"""Try what is known to help a small GAN on little data.

    python benchmarks/regularizers.py TRIAL --init RUN/finish --data $MSCA_DATA --perceptual-weights $WEIGHTS --out TRIALS
    python benchmarks/regularizers.py summary --out TRIALS --json results/regularizers.json

Every trial goes on from the same checkpoint by the recipe of `smooth` (train_shipped.py), with the same batches and seeds, and differs in one thing:

* `as-is`: in nothing; its last weights, without averaging, are measured as `no-average`;
* `r1`: a penalty on the gradient of the discriminator's summed scores at true pictures (Mescheder et al. 2018; γ = .01, as a picture has 1586
  scores), on every fourth iteration with four times the weight;
* `diffaugment`: the discriminator sees brightness, saturation, contrast, position and a missing square changed at random, alike in true and painted pictures (Zhao et al. 2020);
* `no-spectral-norm`: the discriminator's convolutions without spectral normalization;
* `generator-every-5`: the generator moves on every fifth iteration (the paper's cadence);
* `reconstruction`: no discriminator in the generator's loss.

Each is measured on the first 12 held-out photos of three sets, as shipped_measures.py picks them; differences to `as-is` are paired, over all photos.
"""
import argparse
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from model_card import SETS
from shipped_measures import measure, pick, rounded
from torch import nn
from torch.nn.utils import parametrize
from train_shipped import COMMON, RECIPES, SHAPES, every, sources

import msca.learning.learner
from msca.base.labels import SCENE_LABELS
from msca.data.published import open_dataset
from msca.evidence.metrics import Backbones, build_metrics
from msca.evidence.report import bootstrap_mean
from msca.learning.callbacks import DiscriminatorStep, recompute_batchnorm
from msca.learning.history import read_history
from msca.learning.learner import adam
from msca.learning.recipe import TrainingConfig
from msca.learning.run import TrainingRun
from msca.model.checkpoint import save_synthesizer
from msca.model.segmenter import load_segmenter
from msca.model.synthesizer import SynthesizerConfig
from msca.pretrained.models import model_folder
from msca.pretrained.synthesizer import Synthesizer

COLUMNS = dict(psnr='psnr_right', distance='distance_right', high_frequency='high_frequency')


class R1(DiscriminatorStep):
    "A discriminator step with γ/2·‖∇D‖² at true pictures, lazily."
    name, gamma, lazy, count = 'discriminator_step', .01, 4, 0

    def _learn(self, loss):
        self.count += 1
        if self.count % self.lazy == 0:
            truth, _, *condition = self.yb
            truth = truth.detach().float().requires_grad_(True)
            with torch.autocast('cpu', enabled=False):
                score = sum(scale[-1].sum() for scale in self.discriminator(truth, *condition))
                grad, = torch.autograd.grad(score, truth, create_graph=True)
            loss = loss + self.lazy*self.gamma/2*grad.square().sum((1, 2, 3)).mean()
        super()._learn(loss)


class Augmented(nn.Module):
    "A discriminator behind random changes that stay the same for an iteration: its step, and both calls of the generator's loss."
    def __init__(self, discriminator):
        super().__init__()
        self.discriminator, self.config, self.seed = discriminator, discriminator.config, 0

    def train(self, mode=True):
        if mode: self.seed += 1  # once an iteration, at the discriminator's step
        return super().train(mode)

    def forward(self, image, layout, exemplar, exemplar_layout):
        n, (h, w), draws = min(len(image), 4), image.shape[2:], torch.Generator().manual_seed(self.seed)
        rand = lambda *shape: torch.rand(*shape, generator=draws).repeat(len(image)//n, *[1]*(len(shape)-1))
        brightness, saturation, contrast = (rand(n, 1, 1, 1) for _ in range(3))
        x = image + brightness-.5
        x = (x-x.mean(1, keepdim=True))*2*saturation + x.mean(1, keepdim=True)
        x = (x-x.mean((1, 2, 3), keepdim=True))*(.5+contrast) + x.mean((1, 2, 3), keepdim=True)
        shift, hole = (rand(n, 2)-.5)/4, rand(n, 2)  # of the side: up to an eighth; center of a quarter
        theta = torch.eye(2, 3).repeat(len(x), 1, 1)
        theta[:, :, 2] = 2*shift
        both = F.grid_sample(torch.cat([x, layout], 1).float(), F.affine_grid(theta, (len(x), 1, h, w), align_corners=False), align_corners=False)
        rows, cols = torch.arange(h)[None, :, None]/h, torch.arange(w)[None, None]/w
        seen = ((rows-hole[:, :1, None]).abs() > .125) | ((cols-hole[:, 1:, None]).abs() > .125)
        x, layout = both.split([3, layout.shape[1]], 1)
        return self.discriminator(x*seen[:, None], layout, exemplar, exemplar_layout)


def build(trial, folder, a):
    "The run of a trial."
    config = TrainingConfig(**{**COMMON, 'perceptual_weights': a.perceptual_weights, **RECIPES['smooth']})
    if trial == 'generator-every-5': config = replace(config, generator_every=5)
    if trial == 'reconstruction': config = replace(config, losses=replace(config.losses, adversarial=0., feature_matching=0.))
    train, valid = sources('photos', a.data, 'smooth')
    run = TrainingRun(folder, every(train, 4*a.iterations), every(valid, 8), SCENE_LABELS, config, SynthesizerConfig(len(SCENE_LABELS), **SHAPES['smooth']),
                      segmenter=load_segmenter(model_folder(None))[0].parse, init=a.init)
    if trial == 'no-spectral-norm':
        for m in list(run.networks.discriminator.modules()):
            if parametrize.is_parametrized(m): parametrize.remove_parametrizations(m, 'weight')
    if trial == 'diffaugment': run.networks.discriminator = Augmented(run.networks.discriminator)
    run.networks.opts['discriminator'] = adam(run.networks.discriminator.requires_grad_(True).parameters(), config.discriminator_lr, config)
    if trial == 'r1': msca.learning.learner.DiscriminatorStep = R1
    return run


def measured(folder, a):
    "Rows of numbers by set, each photo's in the order in which shipped_measures.py picks them."
    (distance,) = build_metrics(('squeezenet_distance',), Backbones(squeezenet=a.perceptual_weights))
    s, found = Synthesizer.load(folder, 'cpu', quiet=True), {}
    for name in SETS:
        photos = open_dataset(Path(a.data)/name, None, SCENE_LABELS)
        found[name] = measure(s, pick(photos, a.photos, s.size, np.random.default_rng(0)), distance, {})
    return found


def give_parser(folder):
    "The shipped parser beside a checkpoint, which then loads like a shipped model."
    for name in ('parser.json', 'parser.safetensors'): (folder/name).write_bytes((model_folder(None)/name).read_bytes())


def try_one(a):
    folder, start = a.out/a.trial, time.time()
    run = build(a.trial, folder, a)
    run.run(progress=False)
    minutes = (time.time()-start)/60
    right = [r['d_accuracy_self'] for r in read_history(folder)[-30:]]
    for name, model in {a.trial: None, **({'no-average': run.networks.model} if a.trial == 'as-is' else {})}.items():
        where = a.out/name
        if model is not None:
            batches = (b for _, b in zip(range(16), run.loaders(3).train))
            save_synthesizer(recompute_batchnorm(model, batches), SCENE_LABELS, 256, where, {})
        give_parser(where)
        rows = measured(where, a)
        report = dict(trial=name, iterations=run.iteration, minutes=minutes, discriminator_right=float(np.mean(right)), rows=rows)
        (a.out/f'{name}.json').write_text(json.dumps(rounded(report), indent=1)+'\n')
        print(name, {s: {k: float(np.mean([r[c] for r in rows[s]])) for k, c in COLUMNS.items()} for s in SETS}, flush=True)


def summarize(a):
    "Means by set, and paired differences to `as-is` over all photos."
    reports = {p.stem: json.loads(p.read_text()) for p in sorted(a.out.glob('*.json'))}
    flat = lambda r, column: np.array([row[column] for s in SETS for row in r['rows'][s]])
    trials = {}
    for name, r in reports.items():
        t = dict(iterations=r['iterations'], minutes=r['minutes'], discriminator_right=r['discriminator_right'],
                 **{k: {s: float(np.mean([row[c] for row in r['rows'][s]])) for s in SETS} for k, c in COLUMNS.items()})
        if name != 'as-is': t['minus_as_is'] = {k: bootstrap_mean(flat(r, c)-flat(reports['as-is'], c))._asdict() for k, c in COLUMNS.items()}
        trials[name] = t
    made = dict(command='python benchmarks/regularizers.py TRIAL --init RUN/finish --data $MSCA_DATA --perceptual-weights $WEIGHTS '
                '--out TRIALS, for every trial; python benchmarks/regularizers.py summary --out TRIALS --json results/regularizers.json',
                seed=0, date=time.strftime('%Y-%m-%d'), hardware='one thread of a shared CPU for each', torch=torch.__version__)
    a.json.write_text(json.dumps(rounded(dict(photos=len(flat(reports['as-is'], 'psnr_right')), trials=trials, made_by=made)), indent=1)+'\n')


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('trial', choices=['as-is', 'r1', 'diffaugment', 'no-spectral-norm', 'generator-every-5', 'reconstruction', 'summary'])
    ap.add_argument('--init', help='checkpoint to go on from')
    ap.add_argument('--data', help='folder with the photo sets')
    ap.add_argument('--perceptual-weights', help='SqueezeNet 1.0 weights under torchvision names')
    ap.add_argument('--iterations', type=int, default=100, help='default: 100')
    ap.add_argument('--photos', type=int, default=12, help='of each set (default: 12)')
    ap.add_argument('--out', required=True, type=Path, help='folder of the trials')
    ap.add_argument('--json', type=Path, help='with summary: what to write')
    a = ap.parse_args()
    if a.trial == 'summary' and not a.json: ap.error('summary wants --json')
    if a.trial != 'summary' and not (a.init and a.data and a.perceptual_weights): ap.error('a trial wants --init, --data and --perceptual-weights')
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    if a.trial == 'summary': return summarize(a)
    a.out.mkdir(parents=True, exist_ok=True)
    try_one(a)


if __name__ == '__main__': main()
