"""Measure the paper's configuration: size, arithmetic, memory and time of one forward pass and one full training step.

    python benchmarks/paper_config.py --out results/paper_config.json

Random weights throughout (VGG-19 included), one picture of 256×256, a random layout of 182 classes: nothing is downloaded, nothing is
learned. The training step is the real one: discriminator update on the hinge loss, generator update on hinge, feature matching and VGG-19
perceptual loss, Adam for both, run by the learner that trains every model.

One FLOP is one multiplication or one addition, so a multiply-accumulate counts as two; what torch's FlopCounterMode does not know
(normalization, activation, interpolation, softmax) is not counted. Peak memory is that of the whole process (ru_maxrss). cpu_seconds are what
the process itself computed, seconds what passed meanwhile; on a shared machine the second is larger.
"""
import argparse
import json
import os
import platform
import resource
import sys
import time
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
import torchvision
from fastai.callback.core import Callback, CancelValidException
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from msca.base.files import write_whole
from msca.base.labels import one_hot
from msca.learning.discriminators import DiscriminatorConfig, MultiScaleDiscriminator
from msca.learning.learner import synthesis_learner
from msca.learning.losses import PerceptualLoss
from msca.learning.recipe import TrainingConfig
from msca.learning.samples import CROSS
from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig


def random_sample(n_labels, size, seed):
    "One training sample (c1, x2, c2, x1, task) of noise pictures and coarse random layouts."
    g = torch.Generator().manual_seed(seed)
    layout = lambda: torch.randint(0, n_labels, (1, size//16, size//16), generator=g).repeat_interleave(16, 1).repeat_interleave(16, 2)
    photo = lambda: torch.rand(3, size, size, generator=g)*2-1
    return one_hot(layout(), n_labels)[0], photo(), one_hot(layout(), n_labels)[0], photo(), torch.tensor(CROSS)


def n_parameters(module, trainable=True):
    "Number of weights, of those that learn or of those that are frozen."
    return sum(p.numel() for p in module.parameters() if p.requires_grad == trainable)


def peak_gb():
    "Largest memory of this process so far, in GB (Linux counts in KiB, macOS in bytes)."
    unit = 1 if sys.platform == 'darwin' else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*unit/1e9, 2)


class Clock:
    "Seconds on the wall, and seconds of computing by this process: the second does not suffer from neighbors."
    def __init__(self): self.wall, self.cpu = time.perf_counter(), time.process_time()
    def read(self): return dict(seconds=round(time.perf_counter()-self.wall, 2), cpu_seconds=round(time.process_time()-self.cpu, 2))


def measure_forward(model, sample):
    "GFLOP of one forward pass, in all and by part, and its seconds, without gradients."
    inputs = [t[None] for t in sample[:3]]
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter: model.eval()(*inputs)
        clock = Clock()
        model(*inputs)
    times, counts = clock.read(), counter.get_flop_counts()
    parts = {name: sum(counts.get(f'SceneSynthesizer.{name}', {}).values()) for name in ('image_pyramid', 'label_pyramid', 'generator')}
    total = counter.get_total_flops()
    parts['attention'] = total - sum(parts.values())
    gflop = {k: round(v/1e9, 3) for k, v in dict(total=total, **parts).items()}
    return dict(gflop=gflop, **times, peak_gb=peak_gb())


class TrainingOnly(Callback):
    "Leave validation out."
    def before_validate(self): raise CancelValidException


def one_step(model, discriminator, perceptual, config, sample):
    "One iteration of training, both networks moving; the losses, the seconds, and how many weight tensors moved."
    dl = DataLoader([sample], bs=1)
    dls = DataLoaders(dl, dl, device=torch.device('cpu'))
    dls.n_inp = 3
    learn = synthesis_learner(dls, model, discriminator, config, perceptual, cbs=[TrainingOnly()])
    nets = dict(generator=model, discriminator=discriminator)
    before = {k: [(p, p.detach().double().sum().item()) for p in n.parameters() if p.requires_grad] for k, n in nets.items()}
    clock = Clock()
    with learn.removed_cbs([cb for cb in learn.cbs if isinstance(cb, ProgressCallback)]), learn.no_logging(): learn.fit(1)
    times = clock.read()
    moved = {k: f'{sum(b != p.detach().double().sum().item() for p, b in pairs)} of {len(pairs)}' for k, pairs in before.items()}
    losses = {k: round(v, 4) for k, v in (learn.loss_func.parts | learn.discriminator_step.parts).items()}
    return dict(losses=losses, tensors_moved=moved, **times, peak_gb=peak_gb())


def measure(config, size, seed=0, discriminator_width=64):
    "Everything about one configuration, as a dictionary of numbers."
    torch.manual_seed(seed)
    training = replace(TrainingConfig.paper(), generator_every=1, perceptual_weights=None)  # paper: 5; here the generator moves at once
    model = SceneSynthesizer(config, vgg_weights=None)
    discriminator = MultiScaleDiscriminator(DiscriminatorConfig(config.n_labels, width=discriminator_width))
    sample = random_sample(config.n_labels, size, seed)
    parameters = dict(generator=n_parameters(model), vgg19=n_parameters(model, trainable=False), discriminator=n_parameters(discriminator))
    forward = measure_forward(model, sample)
    step = one_step(model.train(), discriminator, PerceptualLoss.vgg19(None), training, sample)
    return dict(size=size, batch_size=1, parameters=parameters, forward=forward, training_step=step)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--size', type=int, default=256, help='side of the picture, a multiple of 16')
    ap.add_argument('--labels', type=int, default=182, help='number of classes (182: COCO-Stuff)')
    ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--threads', type=int, default=1)
    ap.add_argument('--out', type=Path, default=Path('results/paper_config.json'))
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(a.threads)
    config = SynthesizerConfig.paper(a.labels)
    numbers = measure(config, a.size, a.seed)
    command = f'python benchmarks/paper_config.py --size {a.size} --labels {a.labels} --seed {a.seed} --threads {a.threads} --out {a.out}'
    about = dict(what='paper configuration, random weights, one forward pass and one full training step', command=command, seed=a.seed,
                 hardware=f'{os.cpu_count()}-core CPU, {a.threads} thread(s), beside other work', date=str(date.today()),
                 versions=dict(python=platform.python_version(), torch=torch.__version__, torchvision=torchvision.__version__),
                 flop='one multiplication or one addition; a multiply-accumulate counts as two')
    with write_whole(a.out) as part: part.write_text(json.dumps(dict(**about, **numbers, synthesizer=config.to_dict()), indent=1)+'\n')
    print(json.dumps(numbers, indent=1))


if __name__ == '__main__': main()
