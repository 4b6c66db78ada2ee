"""Train scenes-256 on with a discriminator that sees through a frozen network: the recipe 'scenes', on photos held out by place.

    python benchmarks/train_scenes.py --data $MSCA_DATA --perceptual-weights $WEIGHTS --out RUN

Photos have a short side of 256. Of four iterations two paint 8 crops of 128×128 from another crop of the same photo, one paints 8 crops from the whole photo, mirrored,
and one 2 whole photos from themselves, mirrored. The exemplar's labels are always parsed. A run that is started again goes on from RUN/state.pt,
with the settings that it is given now; SIGTERM ends it after an iteration, with its state saved.

Somewhere else, such as on a rented GPU, the photos come from a pack that `benchmarks/gpu_pack.py` wrote (`--pack` in place of `--data`), and the state
lies in pieces (`--piece`), so that files stay small enough to be carried: a step there is

    python benchmarks/train_scenes.py --pack gpu-pack/photos.zip --perceptual-weights gpu-pack/perceptual.npz --backbone-weights gpu-pack/backbone.npz \
        --device cuda --crops 64 --piece 15 --minutes 9 --out RUN

RUN/phase holds generator, average and discriminators of the last sample grid in half precision; `--phase` starts a new run from such a folder with fresh
optimizers, so that a training goes on where its states cannot be kept. That of the shipped model is `benchmarks/phases/scenes-256`.

The whole way from random weights begins with attention pre-training, whose curve is RUN/pretrain.csv; then come `--reconstruct` iterations without discriminators:

    python benchmarks/train_scenes.py --scratch compact-l --pretrain 3000 --reconstruct 2500 --color 80 --data $MSCA_DATA --perceptual-weights $WEIGHTS --out RUN

`--processes 2` trains on two cores: every process takes samples of its own, and every 20 iterations all go on from the mean of their weights. `--phase FOLDER --grow compact-l`
begins with a trained smaller painter in a larger shape, which paints the same at first.

`--procedural 3000 --parser procedural-128's folder` in place of `--data` takes procedural scenes, and a parser that knows nothing else.

RUN/log.csv has a row of means for every ten iterations: `photos` and `painted` are the shares of pixels that the discriminator finds right, `share_X` the part that
term X has among the lengths of the gradients at the painter's last layer, `strength` the factor by which `--share-limit` scales the adversarial ones. RUN/samples holds
swaps of held-out scenes that a seed has chosen, RUN/averages the averaged model with each of them. RUN/best.json names the one whose pictures of 32 held-out photos have
the smallest LPIPS on AlexNet, a network that no loss looks through (`--alexnet`); RUN/held_out.csv has that distance of all.
"""
import argparse
import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from msca.base.files import write_whole
from msca.base.labels import SCENE_LABELS, colorize, one_hot
from msca.data.datasets import MixedScenes, ProceduralScenes, SceneFolder
from msca.data.patches import nonoverlapping_boxes, random_box
from msca.evidence.perceptual import lpips_network
from msca.learning.backbones import load_backbone
from msca.learning.callbacks import EMA, recompute_batchnorm
from msca.learning.discriminators import PixelDiscriminator
from msca.learning.learner import AttentionPretrainer, PretrainingLoss
from msca.learning.losses import PerceptualLoss, chroma_loss, color_loss, hinge_discriminator, hinge_generator, texture_loss
from msca.learning.samples import PhotoStore
from msca.learning.semantic_discriminator import (
    SemanticConfig,
    SemanticDiscriminator,
    class_weights,
    label_ids,
    painted_loss,
    semantic_accuracy,
    true_class_loss,
)
from msca.model.checkpoint import load_synthesizer, save_synthesizer
from msca.model.segmenter import load_segmenter
from msca.model.spade import renew_spectral_norm
from msca.model.synthesizer import SynthesizerConfig, build_synthesizer
from msca.pretrained.models import PRETRAINED

FOLDERS = 'siftflow', 'labelmefacade', 'camvid'  # of $MSCA_DATA: photos that hold 256×256
SIDE, CROP = 256, 128  # pixels
KINDS = 'crop', 'mirror', 'crop', 'whole'  # what the exemplars are, in turn; 'two': two crops side by side
S = len(SCENE_LABELS)
RANK, PORT = 'MSCA_TRAIN_RANK', 'MSCA_TRAIN_PORT'  # environment of the processes that another one started
TERMS = 'adversarial', 'pixel', 'perceptual', 'color', 'chroma', 'texture'  # of the generator's loss
COLUMNS = 'discriminator', 'photos', 'painted', *TERMS, *(f'share_{k}' for k in TERMS), 'strength'  # of the log; 0 is what there is not yet
SHAPES = {  # what `--scratch` makes: 2.7 M and 7.1 M parameters; a picture of the second takes 1.5 × the time
    'compact': {},
    'compact-l': dict(widths=(32, 64, 128, 256, 384), spade_hidden=(32, 48, 96, 128, 128), slots=(8, 16, 32, 32, 32))}


def apart_from(target, rng):
    "Another random crop that does not overlap the target."
    while True:
        box = random_box(SIDE, SIDE, CROP, rng)
        if not box.overlap(target): return box


def pair(store, kind, rng):
    "A target and an exemplar from one random photo: (photo, ids) each."
    photo, labels, parsed = store[int(rng.integers(len(store)))]
    box = random_box(*photo.shape[:2], SIDE, rng).slices
    photo, labels, parsed = (a[box] for a in (photo, labels, parsed))
    if rng.random() < .5: photo, labels, parsed = (a[:, ::-1] for a in (photo, labels, parsed))
    target, exemplar = nonoverlapping_boxes(SIDE, SIDE, CROP, rng)
    if kind in ('crop', 'two'):
        crops = [exemplar.slices]*(kind == 'crop') or [exemplar.slices, apart_from(target, rng).slices]
        return (photo[target.slices], labels[target.slices]), tuple(np.concatenate([a[c] for c in crops], 1) for a in (photo, parsed))
    whole = photo[:, ::-1], parsed[:, ::-1]
    return ((photo, labels) if kind == 'whole' else (photo[target.slices], labels[target.slices])), whole


def tensors(photos, maps, device='cpu'):
    "Photos in [-1, 1] and one-hot labels of one size, as batches."
    photos, maps = (torch.from_numpy(np.stack(a)).to(device) for a in (photos, maps))
    batch = photos.permute(0, 3, 1, 2).float().div(127.5).sub(1), one_hot(maps, S)
    return tuple(t.contiguous(memory_format=torch.channels_last) for t in batch)


def batch(store, iteration, seed, crops=8, device='cpu', kinds=KINDS):
    "(x1, c1, x2, c̃2), drawn from the seed and the iteration alone: so many crops, or a quarter as many whole photos."
    rng, kind = np.random.default_rng((seed, iteration)), kinds[iteration % len(kinds)]
    targets, exemplars = zip(*(pair(store, kind, rng) for _ in range(max(1, crops//4) if kind == 'whole' else crops)))
    return *tensors(*zip(*targets), device), *tensors(*zip(*exemplars), device)


def squares(store, i):
    "A photo, its annotated and its parsed map, cut to the square in the middle."
    top, left = ((n-SIDE)//2 for n in store[i][0].shape[:2])
    return tuple(a[top:top+SIDE, left:left+SIDE] for a in store[i])


def mirrored(store, i, device):
    "A photo's tensors, and those of itself, mirrored, with the parsed map: (x1, c1, x2, c̃2)."
    photo, labels, parsed = squares(store, i)
    return *tensors([photo], [labels], device), *tensors([photo[:, ::-1]], [parsed[:, ::-1]], device)


def spread(store, n, device='cpu'):
    "So many photos, spread evenly over a store and the same every time, as `mirrored` gives them."
    return (mirrored(store, int(i), device) for i in np.unique(np.linspace(0, len(store)-1, n).astype(int)))


def color_decibels(x, truth):
    "PSNR of the means of 8 by 8 cells, of 1×3×H×W in [-1, 1] at any two sizes."
    return float(10*torch.log10(4/F.mse_loss(*(F.adaptive_avg_pool2d(t.float(), 8) for t in (x, truth)))))


class Together:
    """Processes that train one painter on different samples, each on a core of its own. Every few iterations all go on from the mean of what they have
    learned (local SGD, Stich 2019). Process 0 starts the others and alone writes files."""
    def __init__(self, a):
        self.n, self.every, port = a.processes, a.together_every, os.environ.get(PORT)
        self.rank, self.others = int(os.environ.get(RANK, 0)), []
        if self.n == 1: return
        meet = torch.distributed.TCPStore('localhost', int(port or 0), self.n, is_master=not port, wait_for_workers=False)
        if not port:
            self.others = [subprocess.Popen([sys.executable, *sys.argv], env=os.environ | {RANK: str(k), PORT: str(meet.port)}) for k in range(1, self.n)]
        self.group = torch.distributed.ProcessGroupGloo(meet, self.rank, self.n)  # none that layers know: each normalizes its own batch

    def mean_(self, trainer, stop):
        "Let all have the mean of the weights, averages and moments; whether anybody wants to stop. Called every iteration, and true only where all are at the same one."
        if self.n == 1: return bool(stop)
        if trainer.iteration % self.every: return False
        shared = [t for t in tensors_of(trainer.state()) if t.is_floating_point()]
        flat = torch.cat([torch.tensor([float(bool(stop))]), *(t.flatten().float() for t in shared)])
        self.group.allreduce([flat]).wait()
        flat /= self.n
        stop, *means = flat.split([1, *(t.numel() for t in shared)])
        with torch.no_grad():
            for t, mean in zip(shared, means): t.copy_(mean.view(t.shape))
        return float(stop) > 0


def tensors_of(state):
    "All tensors of nested dictionaries and lists, in order."
    if torch.is_tensor(state): return [state]
    return [t for v in (state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()) for t in tensors_of(v)]


class PackedPhotos:
    "Photos of a pack that `benchmarks/gpu_pack.py` wrote, as `PhotoStore` gives them; decoded once."
    def __init__(self, path, side):
        with zipfile.ZipFile(path) as pack: self.files = {n: pack.read(n) for n in pack.namelist() if n.startswith(f'{side}/')}
        self.names, self.kept = sorted({n.rsplit('.', 2)[0] for n in self.files}), {}

    def __len__(self): return len(self.names)

    def __getitem__(self, i):
        if i not in self.kept:
            read = lambda end: np.asarray(Image.open(io.BytesIO(self.files[f'{self.names[i]}.{end}'])))
            self.kept[i] = tuple(map(read, ('photo.jpg', 'labels.png', 'parsed.png')))
        return self.kept[i]


def new_generator(shape, seed, variant='msca'):
    "A painter with random weights, and its classes."
    torch.manual_seed(seed)
    return build_synthesizer(variant, replace(SynthesizerConfig.scenes(S), **SHAPES[shape])), SCENE_LABELS


@torch.no_grad()
def grow(small, large):
    """Let a larger painter, in place, paint almost what a smaller one of the same variant paints. Channels that are added read the others at random, the same every time,
    and are read by those that are added alone, as everything else gives them a weight of zero; slots that are added are copies, which share what was read from theirs."""
    torch.manual_seed(0)
    old, new = small.state_dict(), large.state_dict()
    for name, wide in new.items():
        narrow, part = old[name], tuple(map(slice, old[name].shape))
        if wide.shape == narrow.shape: wide.copy_(narrow)
        elif name.startswith('attention.'):
            copies = len(wide)//len(narrow)
            wide.copy_(narrow.repeat(copies, *[1]*(wide.dim()-1)))  # rows are slots
            if name.endswith('psi.bias'): wide -= math.log(copies)
            if name.endswith('phi.weight'): wide[len(narrow):] *= 1 + .2*torch.randn_like(wide[len(narrow):])
        elif not name.endswith(('._u', '._v')):
            if name.endswith('.original'): wide *= .3*largest_singular(narrow)/largest_singular(wide)  # it shall not change the norm that all is divided by
            if wide.dim() > 1: wide[:len(narrow), narrow.shape[1]:] = 0
            wide[part] = narrow
    large.load_state_dict(new)
    return renew_spectral_norm(large)


def largest_singular(weight): return torch.linalg.matrix_norm(weight.flatten(1), 2)


def shifted(most, *pictures):
    "Pictures and maps of one size, moved by the same random number of pixels, up to `most` each way; what was outside is mirrored."
    h, w = pictures[0].shape[-2:]
    top, left = torch.randint(2*most+1, (2,)).tolist()
    return [F.pad(t, (most,)*4, mode='reflect')[..., top:top+h, left:left+w] for t in pictures]


class Trainer:
    "Generator, its average, two discriminators, and an iteration of all."
    def __init__(self, a, store):
        self.a, self.store, self.iteration, self.device = a, store, 0, torch.device(a.device)
        self.seed = a.seed  # of what is drawn in training
        shape = a.scratch or a.grow
        self.generator, self.label_set = new_generator(shape, a.seed, a.variant) if shape else load_synthesizer(a.init)[:2]
        self.generator.to(self.device)
        self.average = EMA(deepcopy(self.generator), a.average)
        self.average.learn = SimpleNamespace(model=self.generator)
        self.generator.train().requires_grad_(True).to(memory_format=torch.channels_last)  # a quarter of an iteration's time
        self.backbone = load_backbone(a.backbone, a.backbone_weights or 'standard').to(self.device)
        self.perceptual = getattr(PerceptualLoss, a.perceptual_network)(a.perceptual_weights).to(self.device)
        torch.manual_seed(a.seed)
        self.semantic = SemanticDiscriminator(SemanticConfig(S, self.backbone.channels)).to(self.device)
        self.pixels = PixelDiscriminator(S+3*a.pair).to(self.device)
        some = tensors(*zip(*(squares(store, i)[:2] for i in range(0, len(store), max(1, len(store)//15)))), self.device)[0]
        self.semantic.calibrate(self.backbone(some))
        self.discriminators = torch.nn.ModuleList([self.semantic, self.pixels])
        self.g_opt, self.d_opt = (torch.optim.Adam(m.parameters(), lr, betas=(.5, .99)) for m, lr in ((self.generator, a.lr), (self.discriminators, a.discriminator_lr)))
        self.strength = 1.  # of the adversarial terms, below 1 while they would exceed their share

    def autocast(self): return torch.autocast(self.device.type, torch.bfloat16, enabled=self.a.precision == 'bfloat16')

    def judge(self, image, maps, onehot):
        "Scores of both discriminators; the pixel discriminator sees the label map beside the picture, and on request the exemplar."
        if self.beside is not None: onehot = torch.cat([onehot, self.beside], 1)
        with self.autocast(): return self.semantic(maps), self.pixels(image, onehot)

    def learning_rates(self):
        "Linear decay between the two given iterations, down to a twentieth."
        start, end = self.a.decay
        factor = 1 - .95*min(1, max(0, (self.iteration-start)/max(1, end-start)))
        own = self.a.reconstruct_lr if self.iteration < self.a.reconstruct else self.a.lr
        for opt, lr in ((self.g_opt, own), (self.d_opt, self.a.discriminator_lr)): opt.param_groups[0]['lr'] = lr*factor

    def step(self):
        "One iteration; the numbers to log."
        torch.manual_seed(self.seed*1_000_003 + self.iteration)
        self.learning_rates()
        x1, c1, x2, c2 = batch(self.store, self.iteration, self.seed, self.a.crops, self.device, self.a.kinds)
        self.beside = F.interpolate(x2, x1.shape[-2:], mode='area') if self.a.pair else None
        layout = c1*(1+self.a.class_noise*torch.randn(*c1.shape[:2], 1, 1, device=self.device)) if self.a.class_noise else c1
        with self.autocast(): image = self.generator(layout, x2, c2)
        leaf = image.detach().float().requires_grad_(True)
        told, terms = self.adversarial_terms(leaf, x1, c1) if self.iteration >= self.a.reconstruct else ({}, {})
        terms |= self.reconstruction_terms(leaf, x1)
        gradients = {k: torch.autograd.grad(v, leaf, retain_graph=self.a.shift > 0)[0] for k, v in terms.items()}  # both judges see one moved picture
        at_the_end = {k: torch.autograd.grad(image, self.generator.generator.end.weight, g.to(image.dtype), retain_graph=True)[0] for k, g in gradients.items()}
        told |= {k: float(v.detach()) for k, v in terms.items()} | self.limit(gradients, {k: float(g.norm()) for k, g in at_the_end.items()})
        self.g_opt.zero_grad()
        image.backward(sum(gradients.values()).to(image.dtype))
        self.g_opt.step()
        self.average.after_step()
        self.iteration += 1
        return told

    def discriminator_step(self, x1, fake, true_maps, maps, c1):
        self.discriminators.train().requires_grad_(True)
        (true, pixel_true), (painted, pixel_painted) = self.judge(x1, true_maps, c1), self.judge(fake, maps, c1)
        ids = label_ids(c1, true.shape[-2:])
        self.balance = ids, class_weights(ids, S)
        loss = true_class_loss(true, *self.balance) + painted_loss(painted) + hinge_discriminator(pixel_true, pixel_painted)
        if self.a.label_mix: loss = loss + self.a.label_mix*self.label_mix(x1, fake, true, painted, c1)
        self.d_opt.zero_grad()
        loss.backward()
        self.d_opt.step()
        self.discriminators.eval().requires_grad_(False)
        return dict(discriminator=float(loss.detach()), **semantic_accuracy(true, painted, ids))

    def label_mix(self, x1, fake, true, painted, c1):
        "LabelMix of OASIS: a picture whose classes come from the photo or from the painted one must get the scores of both, mixed alike. Mean squared difference."
        chosen = (torch.rand(len(c1), c1.shape[1], 1, 1, device=c1.device) < .5).float()
        mask = (c1*chosen).sum(1, keepdim=True)
        with torch.no_grad(), self.autocast(): maps = self.backbone(torch.lerp(fake, x1, mask))
        with self.autocast(): mixed = self.semantic(maps)
        return F.mse_loss(mixed.float(), torch.lerp(painted.float(), true.float(), F.interpolate(mask, true.shape[-2:], mode='nearest-exact')))

    def adversarial_terms(self, leaf, x1, c1):
        "A step of the discriminators and its numbers; then the generator's weighted losses by name."
        a, ramp = self.a, min(1., (self.iteration-self.a.reconstruct)/self.a.ramp) if self.a.ramp else 1.
        if a.shift: leaf, x1, c1 = shifted(a.shift, leaf, x1, c1)
        with self.autocast():
            maps = self.backbone(leaf)
            with torch.no_grad(): true_maps = self.backbone(x1)
        told = self.discriminator_step(x1, leaf.detach(), true_maps, [m.detach() for m in maps], c1)
        scores, pixel_scores = self.judge(leaf, maps, c1)
        return told, dict(adversarial=a.adversarial*ramp*true_class_loss(scores, *self.balance), pixel=a.pixel*ramp*hinge_generator(pixel_scores))

    def reconstruction_terms(self, leaf, x1):
        "Weighted losses by name; that of chroma is there against what discriminators bring, and joins with them."
        with self.autocast(): perceptual = self.perceptual(leaf, x1)
        terms = dict(perceptual=self.a.perceptual*perceptual.mean(), color=self.a.color*color_loss(leaf, x1).mean())
        if self.a.texture: terms['texture'] = self.a.texture*texture_loss(leaf, x1).mean()
        return terms | dict(chroma=self.a.chroma*chroma_loss(leaf, x1).mean()) if self.iteration >= self.a.reconstruct else terms

    def limit(self, gradients, sizes):
        "Scale the adversarial gradients down where they would exceed their share of the `sizes`, by a slowly moving factor; the shares of all terms before that."
        total = sum(sizes.values())
        shares = {f'share_{k}': sizes.get(k, 0.)/total for k in TERMS}
        adversarial, cap = shares['share_adversarial']+shares['share_pixel'], self.a.share_limit
        wanted = min(1., cap/(1-cap)*(1-adversarial)/max(adversarial, 1e-9)) if cap < 1 else 1.
        self.strength += .05*(wanted-self.strength)
        for k in {'adversarial', 'pixel'} & set(gradients): gradients[k].mul_(self.strength)
        return dict(shares, strength=self.strength)

    def state(self):
        parts = dict(generator=self.generator, average=self.average.average, discriminators=self.discriminators, g_opt=self.g_opt, d_opt=self.d_opt)
        return {k: v.state_dict() for k, v in parts.items()} | dict(iteration=self.iteration, updates=self.average.n, strength=self.strength)

    def load(self, state):
        for k, v in dict(generator=self.generator, average=self.average.average, discriminators=self.discriminators, g_opt=self.g_opt, d_opt=self.d_opt).items():
            v.load_state_dict(state[k])
        self.iteration, self.average.n, self.strength = state['iteration'], state['updates'], state['strength']

    def keep_phase(self, folder):
        "Everything that a new phase starts from, in half precision."
        for name, net in dict(generator=self.generator, average=self.average.average).items():
            save_synthesizer(net, self.label_set, SIDE, folder/name, dict(iteration=self.iteration), half=True)
        weights = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in self.discriminators.state_dict().items()}
        with write_whole(folder/'discriminators.safetensors') as part: save_file(weights, part)
        with write_whole(folder/'phase.json') as part: part.write_text(json.dumps(dict(iteration=self.iteration, updates=self.average.n)))

    def start_phase(self, folder, fresh=False):
        """Go on from a kept phase with fresh optimizers (and `fresh` discriminators), at its iteration, so that the same photos do not come again; a larger painter
        grows out of that phase's. Where only the average was kept, the generator goes on from it."""
        for name, net in dict(generator=self.generator, average=self.average.average).items():
            grow(load_synthesizer(folder/name if (folder/name).is_dir() else folder/'average')[0], net)
        kept = self.discriminators.state_dict()
        if not fresh:
            self.discriminators.load_state_dict({k: v.to(kept[k].dtype) for k, v in load_file(folder/'discriminators.safetensors').items()})
        told = json.loads((folder/'phase.json').read_text())
        self.iteration, self.average.n = told['iteration'], told['updates']

    def ready_average(self):
        "The average with singular values and batch statistics of its own, the latter over whole training photos."
        renew_spectral_norm(self.average.average)
        drawn = (batch(self.store, 4*i+3, self.a.seed+1, 8, self.device) for i in range(12))
        with self.autocast(): return recompute_batchnorm(self.average.average, ([c1, x2, c2] for _, c1, x2, c2 in drawn))


class Pretraining:
    "Attention alone, over crops and mirrored photos: with it features reach the target. An iteration takes a quarter of the other kind's time."
    def __init__(self, trainer, n, lr):
        self.trainer, self.n, self.lr, self.iteration = trainer, n, lr, 0
        torch.manual_seed(trainer.a.seed)
        self.net = AttentionPretrainer(trainer.generator).to(trainer.device)
        self.loss, self.opt = PretrainingLoss(self.net.targets), torch.optim.Adam(self.net.parameters(), lr, betas=(.5, .99))

    def step(self):
        "One iteration; the loss of every scale. The learning rate falls over the second half."
        a = self.trainer.a
        self.opt.param_groups[0]['lr'] = self.lr*min(1, 2*(1-self.iteration/self.n))
        x1, c1, x2, c2 = batch(self.trainer.store, self.iteration, a.seed+2, a.crops, self.trainer.device, ('crop', 'mirror'))
        self.opt.zero_grad()
        with self.trainer.autocast(): predicted = self.net(c1, x2, c2)
        self.loss(predicted, x1).backward()
        self.opt.step()
        self.iteration += 1
        return self.loss.parts

    @torch.no_grad()
    def color(self, store, scale=2, n=32):
        "PSNR in dB of the colors that a scale predicts for held-out photos from themselves, mirrored, as means of 8×8 cells."
        found = []
        self.net.eval()
        for x1, c1, x2, c2 in spread(store, n, self.trainer.device):
            with self.trainer.autocast(): predicted = self.net(c1, x2, c2)[scale][:, :3]
            found.append(color_decibels(predicted, x1))
        self.net.train()
        return float(np.mean(found))

    def state(self): return dict(net=self.net.state_dict(), opt=self.opt.state_dict(), iteration=self.iteration)

    def load(self, state):
        for k in ('net', 'opt'): getattr(self, k).load_state_dict(state[k])
        self.iteration = state['iteration']


@torch.no_grad()
def sample_grid(trainer, store, seed, n=5):
    "Held-out layouts in the styles of held-out exemplars: photos above, label maps and true photos on the left, the mirrored truth as exemplar in the last column."
    numbers = np.random.default_rng(seed).permutation(len(store))[:2*n]
    scenes = [squares(store, int(i)) for i in numbers]
    exemplars = [tensors([photo], [parsed], trainer.device) for photo, _, parsed in scenes[n:]]
    picture = lambda t: ((t[0].float().permute(1, 2, 0)+1)*127.5).round().clamp(0, 255).byte().cpu().numpy()
    blank, rows = np.full((SIDE, SIDE, 3), 255, np.uint8), []
    rows.append([blank, blank, *(s[0] for s in scenes[n:]), blank])
    for i, (photo, labels, _) in zip(numbers, scenes[:n]):
        _, c1, *mirror = mirrored(store, int(i), trainer.device)
        rows.append([colorize(labels, SCENE_LABELS), photo, *(picture(trainer.average.average(c1, *e)) for e in [*exemplars, mirror])])
    return Image.fromarray(np.concatenate([np.concatenate([np.asarray(a)[..., :3] for a in row], 1) for row in rows]))


@torch.no_grad()
def held_out_lpips(trainer, store, network, n=32):
    "Mean LPIPS between held-out photos, the same every time, and the average's pictures of them, painted from themselves, mirrored."
    return float(np.mean([float(network(trainer.average.average(c1, x2, c2).float(), x1)) for x1, c1, x2, c2 in spread(store, n, trainer.device)]))


def stores(a):
    "Training and held-out photos, parsed."
    if a.pack: return [PackedPhotos(a.pack, side) for side in ('train', 'val')]
    parser = load_segmenter(a.parser)[0].parse
    photos = MixedScenes([SceneFolder(Path(a.data)/name) for name in FOLDERS]) if a.data else ProceduralScenes(a.procedural, SIDE, seed=1)
    return [PhotoStore(photos.split(side), CROP, parser, cache=a.cache).prepare() for side in ('train', 'val')]


def write_row(path, known, rows, columns):
    "What is known, and means of a few iterations, into a log."
    row = known | {k: float(f'{np.mean([r.get(k, 0.) for r in rows]):.4g}') for k in columns}
    new = not path.exists()
    with open(path, 'a', newline='') as f:
        w = csv.DictWriter(f, row)
        if new: w.writeheader()
        w.writerow(row)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = ap.add_mutually_exclusive_group(required=True)
    source.add_argument('--data', help='folder with the photo sets')
    source.add_argument('--procedural', type=int, metavar='N', help='no photos, but so many procedural scenes, split by seed')
    source.add_argument('--pack', type=Path, help='photos packed by benchmarks/gpu_pack.py')
    ap.add_argument('--out', required=True, type=Path)
    ap.add_argument('--init', default=PRETRAINED/'scenes-256', help='checkpoint to start from')
    ap.add_argument('--scratch', choices=SHAPES, help='start from random weights of this shape, in place of --init')
    ap.add_argument('--variant', choices=['msca', 'gap'], default='msca', help='with --scratch: masked spatial-channel attention, or pooling in its place (default: msca)')
    ap.add_argument('--pretrain', type=int, default=0, metavar='N', help='iterations of attention pre-training before the first (default: 0)')
    ap.add_argument('--pretrain-lr', type=float, default=2.5e-3, help='of these, until half of them are done (default: 2.5e-3)')
    ap.add_argument('--reconstruct', type=int, default=0, metavar='N', help='first iterations without discriminators (default: 0)')
    ap.add_argument('--reconstruct-lr', type=float, default=4e-4, help='of the generator in these (default: 4e-4)')
    ap.add_argument('--phase', type=Path, help='folder of a kept phase to start from, in place of --init')
    ap.add_argument('--grow', choices=SHAPES, help="with --phase: into a painter of this shape, which begins with that phase's weights")
    ap.add_argument('--parser', default=PRETRAINED/'scenes-256', help='parser folder')
    ap.add_argument('--cache', type=Path, help='folder for decoded photos (default: in OUT)')
    ap.add_argument('--backbone', default='efficientnet-lite0', help="of the semantic discriminator: 'efficientnet-lite0', 'deeplab', or torchvision's name")
    ap.add_argument('--backbone-weights', help="local file (default: the package's or torchvision's)")
    ap.add_argument('--perceptual-network', choices=['distilled_vgg19', 'vgg16'], default='distilled_vgg19')
    ap.add_argument('--alexnet', help='weights of LPIPS on AlexNet: with them every sample grid has a row in OUT/held_out.csv, and OUT/best.json names the best average')
    ap.add_argument('--perceptual-weights', required=True, help='its local file')
    for name, default in dict(adversarial=.7, pixel=.6, perceptual=5., color=35., chroma=12., texture=0.).items():
        ap.add_argument(f'--{name}', type=float, default=default, help=f'weight of the {name} term (default: {default})')
    ap.add_argument('--share-limit', type=float, default=1., help='the largest part of the gradient that the two adversarial terms may have together (default: 1, no limit)')
    ap.add_argument('--label-mix', type=float, default=0., metavar='WEIGHT', help="of the semantic discriminator's consistency on pictures mixed by class (default: 0, none)")
    ap.add_argument('--class-noise', type=float, default=0., metavar='SIGMA', help='of a factor that every class of a layout gets at random while it is painted (default: 0, none)')
    ap.add_argument('--shift', type=int, default=0, metavar='PIXELS',
                    help='discriminators see pictures that are moved by up to so many at random: their strides reward no pattern that is fixed to the grid (default: 0)')
    ap.add_argument('--pair', action='store_true', help='show the exemplar to the pixel discriminator, beside the picture')
    ap.add_argument('--fresh-discriminators', action='store_true', help="with --phase: discriminators start anew, as those on another --backbone must")
    ap.add_argument('--kinds', type=lambda s: tuple(s.split(',')), default=KINDS, metavar='KIND,…',
                    help='what the exemplars of batches are, in turn (default: crop,mirror,crop,whole)')
    ap.add_argument('--lr', type=float, default=2e-4, help='of the generator')
    ap.add_argument('--discriminator-lr', type=float, default=4e-4)
    ap.add_argument('--decay', type=lambda s: tuple(map(int, s.split(','))), default=(10**9, 10**9+1), help='iterations between which the learning rates fall: FROM,TO')
    ap.add_argument('--average', type=float, default=.998, help='decay of the average')
    ap.add_argument('--ramp', type=int, default=300, help='iterations until the adversarial terms have their weight, counted from where they begin')
    ap.add_argument('--crops', type=int, default=8, help='crops a batch; batches of whole photos have a quarter as many (default: 8)')
    ap.add_argument('--device', default='cpu', help="'cpu', 'cuda' (default: cpu)")
    ap.add_argument('--piece', type=int, default=0, metavar='MIB', help='save the state in files of at most so many MiB (default: in one file)')
    ap.add_argument('--precision', choices=['bfloat16', 'float32'], default='bfloat16')
    ap.add_argument('--iterations', type=int, default=10**9, help='stop after so many in all')
    ap.add_argument('--minutes', type=float, default=1e9, help='stop after so many minutes of this call')
    ap.add_argument('--state-minutes', type=float, default=10, help='between saved states')
    ap.add_argument('--sample-every', type=int, default=250, help='iterations between sample grids')
    ap.add_argument('--threads', type=int, default=1)
    ap.add_argument('--processes', type=int, default=1, metavar='N', help='that train together, each on other samples (default: 1)')
    ap.add_argument('--together-every', type=int, default=20, metavar='N', help='iterations after which they go on from the mean of all (default: 20)')
    ap.add_argument('--seed', type=int, default=0)
    a = ap.parse_args()
    if a.scratch and a.phase: ap.error('--scratch begins anew, and --phase goes on; give one of them')
    if a.pretrain and not a.scratch: ap.error('--pretrain is for a painter with random weights: --scratch SHAPE')
    if a.grow and not a.phase: ap.error('--grow goes on from a smaller painter: --phase FOLDER')
    if a.phase: a.init = a.phase/'average'  # which has the phase's shape
    warnings.simplefilter('ignore')
    torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    a.cache = a.cache or a.out/'cache'
    for folder in ('samples', 'averages'): (a.out/folder).mkdir(parents=True, exist_ok=True)
    train, valid = stores(a)
    trainer = Trainer(a, train)
    if state := read_state(a.out): trainer.load(state)
    elif a.phase: trainer.start_phase(a.phase, a.fresh_discriminators)
    elif a.pretrain and not pretrain(a, trainer, valid): return
    together = Together(a)
    if together.rank == 0:
        with open(a.out/'settings.jsonl', 'a') as f:
            f.write(json.dumps({k: v if isinstance(v, (int, float, tuple)) else str(v) for k, v in vars(a).items()} | dict(iteration=trainer.iteration))+'\n')
        print(f'{len(train)} photos, {len(valid)} held out, from iteration {trainer.iteration}', flush=True)
    run(a, trainer, valid, together)
    for other in together.others: other.wait()


def save_state(a, trainer):
    "Everything that a training goes on from, in one file or in pieces; `state.json` names them and is written last."
    whole = io.BytesIO()
    torch.save(trainer.state(), whole)
    data, most = whole.getbuffer(), a.piece*2**20 or whole.getbuffer().nbytes
    names = [f'state-{trainer.iteration:06d}-{k}.pt' for k in range(-(-data.nbytes//most))] if a.piece else ['state.pt']
    before = state_files(a.out)
    for k, name in enumerate(names):
        with write_whole(a.out/name) as part: part.write_bytes(data[k*most:(k+1)*most])
    with write_whole(a.out/'state.json') as part: part.write_text(json.dumps(names))
    for name in set(before)-set(names): (a.out/name).unlink(missing_ok=True)


def state_files(out):
    "The files of the last state; none of a new run."
    if (out/'state.json').exists(): return json.loads((out/'state.json').read_text())
    return ['state.pt'] if (out/'state.pt').exists() else []


def read_state(out):
    "The last state; None of a new run."
    data = b''.join((out/name).read_bytes() for name in state_files(out))
    return torch.load(io.BytesIO(data), weights_only=True, map_location='cpu') if data else None


def note_best(a, trainer, distance):
    "A row for held_out.csv; best.json names the averaged model with the smallest distance so far."
    print(f'iteration {trainer.iteration}: LPIPS-Alex {distance:.4f} on held-out photos', flush=True)
    with open(a.out/'held_out.csv', 'a') as f: f.write(f'{trainer.iteration},{distance:.5f}\n')
    rows = [line.split(',') for line in (a.out/'held_out.csv').read_text().splitlines()]
    iteration, least = min(rows, key=lambda row: float(row[1]))
    with write_whole(a.out/'best.json') as part: part.write_text(json.dumps(dict(model=f'averages/{int(iteration):06d}', lpips_alex=float(least)))+'\n')


def save_samples(a, trainer, valid):
    "A grid, and the averaged model."
    model = trainer.ready_average()
    if a.alexnet: note_best(a, trainer, held_out_lpips(trainer, valid, lpips_network('alex', a.alexnet)))
    sample_grid(trainer, valid, a.seed+1).save(a.out/'samples'/f'{trainer.iteration:06d}.jpg', quality=92)
    save_synthesizer(model, trainer.label_set, SIDE, a.out/'averages'/f'{trainer.iteration:06d}', dict(iteration=trainer.iteration), half=True)
    trainer.keep_phase(a.out/'phase')


def pretrain(a, trainer, valid):
    """Whether pre-training is over; a run that is started again goes on from pretraining.pt. Its curve is pretrain.csv: means of ten iterations,
    and every 200 the colors of held-out photos."""
    work, kept, rows, stop = Pretraining(trainer, a.pretrain, a.pretrain_lr), a.out/'pretraining.pt', [], []
    start = saved = time.time()
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    if kept.exists(): work.load(torch.load(kept, weights_only=True, map_location='cpu'))
    while work.iteration < a.pretrain and not stop:
        rows.append(work.step())
        if time.time()-start > a.minutes*60: stop.append(True)
        if work.iteration % 10 == 0:
            color = f'{work.color(valid):.2f}' if work.iteration % 200 == 0 or work.iteration == a.pretrain else ''
            write_row(a.out/'pretrain.csv', dict(iteration=work.iteration, held_out_color=color), rows, rows[0])
            rows = []
        if stop or time.time()-saved > a.state_minutes*60:
            with write_whole(kept) as part: torch.save(work.state(), part)
            saved = time.time()
    if stop: return False
    trainer.average.average.load_state_dict(trainer.generator.state_dict())
    save_state(a, trainer)
    kept.unlink(missing_ok=True)
    return True


def run(a, trainer, valid, together):
    "Until time or iterations are over."
    start, saved, rows, stop = time.time(), time.time(), [], []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    trainer.seed += 7919*together.rank
    main, over = together.rank == 0, trainer.iteration >= a.iterations
    if main and trainer.iteration == 0: save_samples(a, trainer, valid)
    while not over:
        rows.append(trainer.step())
        if not all(map(np.isfinite, rows[-1].values())): raise SystemExit(f'iteration {trainer.iteration}: a loss is no longer a finite number; the last state is {a.out}/state.pt')
        over = together.mean_(trainer, stop or trainer.iteration >= a.iterations or time.time()-start > a.minutes*60)
        if not main: continue
        if trainer.iteration % 10 == 0:
            write_row(a.out/'log.csv', dict(iteration=trainer.iteration, minutes=round((time.time()-start)/60, 2)), rows, COLUMNS)
            rows = []
        if trainer.iteration % a.sample_every == 0: save_samples(a, trainer, valid)
        if time.time()-saved > a.state_minutes*60:
            save_state(a, trainer)
            saved = time.time()
    if not main: return
    if trainer.iteration >= a.iterations and trainer.iteration % a.sample_every: save_samples(a, trainer, valid)
    save_state(a, trainer)


if __name__ == '__main__': main()
