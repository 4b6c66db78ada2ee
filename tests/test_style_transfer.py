"TSIT between photos: no losses in pixels, deterministic batches, resumed alike, and a few steps on real photos."
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from msca.learning.callbacks import GeneratorLoss
from msca.learning.discriminators import DiscriminatorConfig, MultiScaleDiscriminator
from msca.learning.learner import EpochPosition
from msca.learning.losses import PerceptualLoss
from msca.learning.recipe import LossWeights
from msca.learning.run import fit_learner
from msca.learning.samples import PhotoStore
from msca.model.synthesizer import build_synthesizer
from msca.relatives.style_transfer import PhotoFolder, UnpairedPhotos, style_transfer_learner, style_transfer_recipe, unpaired_loaders
from msca.relatives.tsit import TSITConfig, content_loss

torch.set_num_threads(1)
TOY = TSITConfig(1, widths=(8, 12, 16), content='photo', mean_color=True)


@pytest.fixture(scope='module')
def loaders(tmp_path_factory):
    "Photos of noise, bright and dark ones, in folders of two shapes."
    folder, rng = tmp_path_factory.mktemp('photos'), np.random.default_rng(0)
    for kind, low, shape in (('bright', 128, (40, 60, 3)), ('dark', 0, (52, 40, 3))):
        (folder/kind).mkdir()
        for i in range(9): Image.fromarray(rng.integers(low, low+128, shape, np.uint8)).save(folder/kind/f'{i}.png')
    bright, dark = (PhotoStore(PhotoFolder(folder/kind), 32) for kind in ('bright', 'dark'))
    return lambda: unpaired_loaders(UnpairedPhotos(bright, dark), UnpairedPhotos(bright, dark, flip=False), 4)


def trained(loaders, epochs, state=None, done=0):
    "Train from an epoch on; what a state must hold."
    torch.manual_seed(0)
    model, config = build_synthesizer('tsit', TOY), replace(style_transfer_recipe(32, 1), lr=1e-3, discriminator_width=8)
    learn = style_transfer_learner(loaders(), model, config, PerceptualLoss.squeezenet(None), done*2, [EpochPosition(done, 0, 0, done*2)])
    step = learn.discriminator_step
    parts = dict(model=model, discriminator=step.discriminator, opt=learn.opt.opt, d_opt=step.d_opt)
    if state:
        for k, part in parts.items(): part.load_state_dict(state[k])
    fit_learner(learn, epochs, progress=False)
    return {k: part.state_dict() for k, part in parts.items()}


def test_stopped_after_an_epoch_and_gone_on(loaders):
    "Partners, crops, noise and dropout depend on the epoch and the iteration alone: two epochs in one go or one by one, the same weights."
    whole, halves = trained(loaders, 2), trained(loaders, 1, trained(loaders, 1), 1)
    for kind in ('model', 'discriminator'):
        for k, v in whole[kind].items(): assert torch.equal(v, halves[kind][k]), (kind, k)


def test_what_teaches(loaders):
    "With weights of 100 no loss in pixels moves the picture; the content term grows as a picture leaves its content."
    content, style, none, truth, task = next(iter(loaders().train))
    pred = torch.zeros_like(content).requires_grad_()
    loss = GeneratorLoss(LossWeights(0, 0, 100, 100, texture=100, color=100, chroma=100), None, PerceptualLoss.squeezenet(None))
    assert loss(pred, truth, task, content, style, none) == 0. and loss.parts == {}
    critic = MultiScaleDiscriminator(DiscriminatorConfig(1, 8, 3, pair=False, labels=False)).eval().requires_grad_(False)
    judged = GeneratorLoss(LossWeights(0, 1, 0, 0), critic)
    assert judged(style.clone().requires_grad_(), truth, task, content, style, none) == 0  # this style photo's features, not another's
    assert judged(style.roll(1, 0).requires_grad_(), truth, task, content, style, none) > 0
    features = PerceptualLoss.squeezenet(None).features
    off = [float(content_loss(features, content+share*(style-content), content)) for share in (0, .05, .3)]
    assert off[0] == 0 and off == sorted(set(off))


def test_labels_as_content_have_no_such_term():
    "The term is that of photos; a model of labels keeps nothing of its pass."
    model = build_synthesizer('tsit', replace(TOY, content='labels'))
    labels, photo = torch.zeros(4, 2, 32, 32), torch.rand(4, 3, 32, 32)
    model(labels, photo, labels)
    assert model.last is None and model.measured == () and model.further_losses(photo, photo, torch.zeros(4), lambda x: [x]) == {}


@pytest.mark.skipif('MSCA_DATA' not in os.environ, reason='real photos: set MSCA_DATA')
def test_a_few_steps_on_real_photos():
    "Coasts by day, painted like coasts at sunset: six updates, all terms finite, and each of them flows."
    class Some(PhotoFolder):
        def __init__(self, beginning, n):
            super().__init__(Path(os.environ['MSCA_DATA'])/'siftflow'/'images')
            self.files = [p for p in self.files if p.name.startswith(beginning)][:n]
            self.names = [p.stem for p in self.files]

    day, sunset = PhotoStore(Some('coast_nat', 12), 64), PhotoStore(Some('coast_sun', 12), 64)
    model, before = build_synthesizer('tsit', TSITConfig(1, widths=(8, 12, 16, 24, 32), content='photo')), []
    before = [p.clone() for p in model.parameters()]
    dls = unpaired_loaders(UnpairedPhotos(day, sunset), UnpairedPhotos(day, sunset, flip=False), 4)
    learn = style_transfer_learner(dls, model, replace(style_transfer_recipe(64, 2), discriminator_width=8), PerceptualLoss.squeezenet(None))
    fit_learner(learn, 2, progress=False)
    parts = learn.loss_func.parts | learn.discriminator_step.parts
    assert {'adversarial', 'feature_matching', 'content', 'discriminator', 'd_accuracy_other'} <= set(parts) and np.isfinite(list(parts.values())).all()
    assert all(p.isfinite().all() and not torch.equal(p, b) for p, b in zip(model.parameters(), before))
    content, style, none, *_ = next(iter(dls.valid))
    with torch.no_grad(): picture = model.eval()(content, style, none)
    assert picture.shape == content.shape and picture.std() > .01
