"A training iteration whose work is done once: the same losses and weights as in the plain order of things, and less kept for the way back."
import weakref
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from fastai.callback.core import Callback
from precision import double_precision
from torch import nn

from msca.base.labels import SCENE_LABELS
from msca.data.datasets import ProceduralScenes
from msca.learning.backbones import LITE0, load_backbone
from msca.learning.callbacks import EMA, GeneratorLoss, SemanticOpponent, sample_weights
from msca.learning.discriminators import DiscriminatorConfig, MultiScaleDiscriminator
from msca.learning.learner import synthesis_learner
from msca.learning.losses import PerceptualLoss, color_loss, feature_matching, hinge_discriminator, hinge_generator, texture_loss, weighted_mean
from msca.learning.recipe import LossWeights, TrainingConfig
from msca.learning.samples import PhotoStore, stage_loaders
from msca.learning.semantic_discriminator import class_weights, label_ids, painted_loss, true_class_loss
from msca.model.spade import GlobalBatchNorm2d, SPADEResBlock
from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig

torch.set_num_threads(1)
S = len(SCENE_LABELS)
TOY = SynthesizerConfig(S, pyramid_widths=(8,)*5, image_channels=(8,)*5, label_channels=(8,)*5, slots=(4,)*5, mlp_width=8,
                        widths=(4, 8, 8, 8, 8), spade_hidden=(8,)*5, padding='replicate', upsampling='bilinear', init_gain=.5)
# small steps and a large ε: losses with corners let rounding grow from step to step
RECIPE = TrainingConfig(size=32, batch_size=8, lr=1e-4, discriminator_lr=1e-4, eps=1e-3, channels_last=True,
                        losses=LossWeights(.7, 2., 1.5, 3., .5, texture=1., color=2., pixel=.2))


def plain_block(block, x, condition):
    "The residual block as the papers have it, one layer after another."
    def layer(spade): return lambda x: spade(x, condition)
    shortcut = x if block.conv_s is None else block.conv_s(layer(block.spade_s)(x))
    x = block.conv_1(F.leaky_relu(layer(block.spade_1)(x), .2))
    return shortcut + block.conv_2(F.leaky_relu(layer(block.spade_2)(x), .2))


def discriminator_loss(d, truth, painted, w, conditions):
    "True and painted pictures through all of the discriminator."
    both = torch.cat([truth, painted])
    if not isinstance(d, SemanticOpponent):
        outs = d(both, *(torch.cat([c, c]) for c in conditions))
        return hinge_discriminator(*([[f.chunk(2)[k] for f in feats] for feats in outs] for k in (0, 1)), w)
    scores, pixels = d(both, torch.cat([conditions[0]]*2))
    (true, fake), ids = scores.chunk(2), label_ids(conditions[0], scores.shape[-2:])
    hinge = hinge_discriminator(*([[f.chunk(2)[k] for f in feats] for feats in pixels] for k in (0, 1)), w)
    return true_class_loss(true, ids, class_weights(ids, S), w) + painted_loss(fake, w) + hinge


def generator_loss(d, perceptual, weights, pred, truth, w, conditions):
    "All terms in one graph."
    terms = dict(l1=weighted_mean((pred-truth).abs(), w), texture=(texture_loss(pred, truth)*w).sum(), color=(color_loss(pred, truth)*w).sum())
    total = 0.
    with torch.no_grad(): known = perceptual.features(truth)
    for own, a, b in zip(perceptual.weights, perceptual.features(pred), known):
        total = total + own*(a-b).abs().mean((1, 2, 3))/(b.abs().mean().clamp_min(1e-6) if perceptual.relative else 1.)
    terms['perceptual'] = (total*w).sum()
    if isinstance(d, SemanticOpponent):
        scores, pixels = d(pred, conditions[0])
        ids = label_ids(conditions[0], scores.shape[-2:])
        terms |= dict(adversarial=true_class_loss(scores, ids, class_weights(ids, S), w), pixel=hinge_generator(pixels, w))
    else:
        with torch.no_grad(): real = d(truth, *conditions)
        fake = d(pred, *conditions)
        terms |= dict(adversarial=hinge_generator(fake, w), feature_matching=feature_matching(real, fake, w))
    return sum(getattr(weights, k)*v for k, v in terms.items()), {k: float(v.detach()) for k, v in terms.items()}


def plainly(networks, perceptual, config, batches):
    "The training written out: one forward pass, the discriminator's step, all of the generator's losses, one backward pass."
    (model, d, average), said = networks, []
    g_opt, d_opt = (torch.optim.Adam(n.parameters(), lr, config.betas, config.eps, foreach=False, fused=False) for n, lr in ((model, config.lr), (d, config.discriminator_lr)))
    updates, n = 0, config.micro_batches
    for i, batch in enumerate(batches):
        turn, told = (i+1) % config.generator_every == 0, []
        g_opt.zero_grad()
        d_opt.zero_grad()
        for k in range(n):
            *conditions, truth, task = (t[k::n] for t in batch)
            w = sample_weights(task, config.losses.self_reconstruction)
            with torch.set_grad_enabled(turn): pred = model.train()(*conditions)
            d.train().requires_grad_(True)
            loss = discriminator_loss(d, truth, pred.detach(), w, conditions)
            (loss/n).backward()
            if k+1 == n: d_opt.step()
            d.eval().requires_grad_(False)
            told.append(dict(discriminator=float(loss.detach())))
            if not turn: continue
            loss, parts = generator_loss(d, perceptual, config.losses, pred, truth, w, conditions)
            (loss/n).backward()
            told[-1] |= parts
        said.append({k: sum(t[k] for t in told)/n for k in told[0]})
        if not turn: continue
        g_opt.step()
        updates += 1
        share = min(config.ema_decay, (1+updates)/(10+updates))
        with torch.no_grad():
            for a, p in zip(average.parameters(), model.parameters()): a.mul_(share).add_(p, alpha=1-share)
            for a, b in zip(average.buffers(), model.buffers()): a.copy_(b)
    return said


class Record(Callback):
    "Batches, and what was told of them."
    order = -30
    def __init__(self): self.batches, self.said = [], []

    def before_batch(self):
        if self.training: self.batches.append((*self.xb, *self.yb))

    def after_batch(self):
        if self.training: self.said.append({k: v for source in self.learn.sources for k, v in source.parts.items() if not k.startswith('d_accuracy')})


def networks(kind):
    "Generator, discriminator, average and perceptual loss, always the same."
    torch.manual_seed(0)
    model = SceneSynthesizer(TOY)
    if kind == 'semantic': d = SemanticOpponent(load_backbone(LITE0, None), S)
    else: d = MultiScaleDiscriminator(DiscriminatorConfig(S, 8, n_layers=3, init_gain=.5, pair=kind == 'pair'))
    perceptual = PerceptualLoss(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()), (1, 3), (1., .5), relative=kind == 'semantic')
    return [model, d, deepcopy(model), perceptual]


@pytest.fixture
def double():
    "A test in double precision."
    with double_precision(): yield


@pytest.mark.parametrize('kind, every, parts', [('semantic', 1, 1), ('semantic', 2, 2), ('pair', 2, 1), ('pair', 1, 2), ('picture', 3, 1)])
def test_losses_and_weights_are_those_of_the_plain_order(double, monkeypatch, kind, every, parts):
    "Six iterations through the learner, and the same ones written out."
    config = replace(RECIPE, generator_every=every, micro_batches=parts)
    store = PhotoStore(ProceduralScenes(12, 64, seed=3), 32)
    model, d, average, perceptual = networks(kind)
    record = Record()
    learn = synthesis_learner(stage_loaders(store, store, S, 2, 8), model, d, config, perceptual, cbs=[EMA(average, config.ema_decay), record])
    with learn.no_bar(), learn.no_logging(): learn.fit(2)
    monkeypatch.setattr(SPADEResBlock, '_learn', plain_block)
    monkeypatch.setattr(GlobalBatchNorm2d, 'forward', nn.BatchNorm2d.forward)
    *theirs, perceptual = networks(kind)
    wanted = plainly(theirs, perceptual, config, record.batches)
    assert len(wanted) == len(record.said) == 6 and learn.generator_cadence.updates == 6//every
    for i, (a, b) in enumerate(zip(record.said, wanted)):
        if (i+1) % every: a = {k: v for k, v in a.items() if k == 'discriminator'}  # the others are those of the update before
        assert a == pytest.approx(b, rel=1e-9, abs=1e-12), i
    for own, other in zip((model, d, average), theirs):
        for (name, a), b in zip(own.state_dict().items(), other.state_dict().values()): assert torch.allclose(a, b, rtol=1e-9, atol=1e-11), name


def bytes_kept(call):
    "Bytes of all tensors that a backward pass would need."
    kept = {}
    def pack(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes(), t
        return t
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t): call()
    return sum(n for n, _ in kept.values())


def test_a_block_keeps_less_for_the_way_back(monkeypatch):
    "At most three quarters, in the compact shape."
    torch.manual_seed(0)
    block, x, condition = SPADEResBlock(48, 24, 29, 24, 1, padding='replicate'), torch.randn(2, 48, 32, 32), torch.randn(2, 29, 32, 32)
    run = lambda: block(x.clone().requires_grad_(), condition.clone().requires_grad_())
    ours = bytes_kept(run)
    monkeypatch.setattr(SPADEResBlock, '_learn', plain_block)
    monkeypatch.setattr(GlobalBatchNorm2d, 'forward', nn.BatchNorm2d.forward)
    assert ours < .75*bytes_kept(run)


def test_no_term_is_kept_until_the_backward_pass(double):
    "Between loss and backward pass no map of the perceptual network and of the discriminator is left, but the gradient is that of all terms."
    _, d, _, perceptual = networks('pair')
    d.eval().requires_grad_(False)
    maps = []
    for layer in (*perceptual.net, *d.scales[0].layers): layer.register_forward_hook(lambda m, args, out: maps.append(weakref.ref(out)))
    loss, task = GeneratorLoss(RECIPE.losses, d, perceptual), torch.tensor([0, 0, 1, 1, 1])
    truth, onehot = torch.rand(5, 3, 32, 32)*2-1, torch.rand(5, S+1, 32, 32)
    pred = (truth*.5).requires_grad_()
    value = loss(pred, truth, task, onehot, truth, onehot)
    assert len(maps) > 10 and not any(m() is not None for m in maps)
    plain, parts = generator_loss(d, perceptual, RECIPE.losses, pred, truth, sample_weights(task, .5), [onehot, truth, onehot])
    assert float(value.detach()) == pytest.approx(float(plain.detach()), rel=1e-12) and loss.parts == pytest.approx(parts, rel=1e-12)
    ours, theirs = (torch.autograd.grad(v, pred)[0] for v in (value, plain))
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-14) and theirs.abs().max() > 1e-4
    with torch.no_grad(): assert float(loss(pred, truth, task, onehot, truth, onehot)) == pytest.approx(float(plain.detach()), rel=1e-12)


def test_half_precision_stays_near():
    "Losses of an iteration in bfloat16 are those of float32 to a few percent; a block's gradients too."
    store = PhotoStore(ProceduralScenes(8, 64, seed=3), 32)
    said = {}
    for precision in ('float32', 'bfloat16'):
        model, d, _, perceptual = networks('semantic')
        record = Record()
        learn = synthesis_learner(stage_loaders(store, store, S, 2, 8), model, d, replace(RECIPE, precision=precision), perceptual, cbs=[record])
        with learn.no_bar(), learn.no_logging(): learn.fit(1)
        said[precision] = record.said[0], torch.cat([p.grad.flatten() for p in d.parameters() if p.grad is not None])
    (a, ga), (b, gb) = said.values()
    assert a == pytest.approx(b, rel=.03, abs=.01)
    assert F.cosine_similarity(ga, gb, 0) > .98
