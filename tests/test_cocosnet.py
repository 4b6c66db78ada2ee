"CoCosNet from outside: trained with its own losses, stopped and resumed, exported, every command, and whom its losses may teach."
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from commanding import check_refused, mix_of, use_commands
from exporting import check_onnx
from PIL import Image
from resuming import train_and_resume

from msca.base.labels import SCENE_LABELS, one_hot
from msca.commands.cli import main
from msca.data.datasets import ProceduralScenes
from msca.learning.callbacks import GeneratorLoss
from msca.learning.history import read_history
from msca.learning.losses import PerceptualLoss
from msca.learning.recipe import LossWeights, TrainingConfig
from msca.learning.run import TrainingRun
from msca.model.synthesizer import SynthesizerConfig, build_synthesizer
from msca.relatives.ablations import variant_recipe
from msca.relatives.cocosnet import CoCosNetConfig

torch.set_num_threads(1)
S = len(SCENE_LABELS)
TOY = CoCosNetConfig(S, widths=(8, 12, 16, 24, 32), spade_hidden=(8,)*5, adaptor_width=4, adaptor_hidden=8, matching_channels=8, matching_blocks=1,
                     mask_weight=5., domain_weight=1., contextual_weight=.5, cycle_weight=.1, warp_weight=1.)
RECIPE = TrainingConfig(size=32, warmup_epochs=1, epochs=(1, 1), batch_size=4, lr=1e-3, discriminator_width=8, losses=LossWeights(1, 2, 0, 5, .5),
                        sample_every=6, checkpoint_every=2)


def training(folder):
    "A toy training."
    variant, config = variant_recipe('cocosnet', RECIPE)
    return TrainingRun(folder, ProceduralScenes(13, 64, seed=1), ProceduralScenes(4, 64, seed=2), SCENE_LABELS, config, TOY, variant=variant)


def test_trained_and_resumed_bit_by_bit(tmp_path):
    "A whole training, and one that crashed and went on: the same history and weights; every term and the warp's quality in the history."
    rows = read_history(train_and_resume(training, tmp_path, 9).folder)
    for row in rows:
        terms = [row[k] for k in ('domain', 'mask', 'cycle', 'warp')]
        assert row['regularization'] == pytest.approx(sum(terms), rel=1e-4) and min(terms) >= 0
        assert 0 <= row['warp_labels'] <= 1 and row['warp_error'] > 0
    assert rows[-1]['mask'] < rows[0]['mask'] and any(row['warp'] for row in rows)


def test_contextual_needs_a_network():
    "With a perceptual loss the contextual term comes from its features, with a gradient to the painter; terms of the warp have none to it."
    torch.manual_seed(0)
    model, photo, labels = build_synthesizer('cocosnet', TOY), torch.rand(2, 3, 64, 64)*2-1, one_hot(torch.arange(64).view(1, 64, 1).expand(2, 64, 64)//16, S)
    loss = GeneratorLoss(LossWeights(1, 2, 0, 5, .5), None, PerceptualLoss.squeezenet(None), model.regularization, model.measurements, model.further_losses)
    value = loss(model(labels, photo, labels), photo.flip(3), torch.tensor([0, 1]))
    assert loss.parts['contextual'] > 0 and loss.parts['regularization'] == pytest.approx(sum(loss.parts[k] for k in ('contextual', 'domain', 'mask', 'cycle', 'warp')))
    value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters()) and model.last is None
    terms = (model(labels, photo, labels), model.further_losses(None, photo, torch.tensor([0, 1])))[1]
    painter = list(model.blocks.parameters())
    assert set(torch.autograd.grad(sum(terms.values()), painter, allow_unused=True)) == {None}


@pytest.mark.parametrize('options', [dict(noise=1, upsampling='bilinear'), pytest.param(dict(padding='reflect', non_local=True), marks=pytest.mark.slow)])
def test_onnx_with_free_sides(options, tmp_path):
    "The ONNX graph agrees with the model for any batch and any sides, to 1e-4; with the options that change the graph."
    torch.manual_seed(0)
    model = build_synthesizer('cocosnet', replace(TOY, init_gain=1., temperature=.05, **options))
    if model.config.non_local: torch.nn.init.ones_(model.blocks[1].non_local.weight)
    check_onnx(model, tmp_path)


@pytest.mark.parametrize('options', [{}, dict(unlabelled=False), dict(adaptor_kernel=3, noise=2), dict(non_local=True)])
def test_odd_inputs(options):
    "Everything unlabelled, a batch of one, the smallest pictures, exemplar and target of different sizes; eval twice gives equal bits."
    torch.manual_seed(0)
    model = build_synthesizer('cocosnet', replace(TOY, **options)).eval()
    for target, exemplar in (((32, 48), (48, 32)), ((16, 16), (16, 16)), ((64, 16), (16, 64))):
        nothing, photo = one_hot(torch.full((1, *target), 255), S), torch.rand(1, 3, *exemplar)*2-1
        for labels in (one_hot(torch.zeros(1, *exemplar).long(), S), one_hot(torch.full((1, *exemplar), 255), S)):
            with torch.no_grad(): picture, again = (model(nothing, photo, labels) for _ in range(2))
            assert picture.shape == (1, 3, *target) and picture.isfinite().all() and torch.equal(picture, again)


def test_the_warp_carries_pixels():
    "A constant exemplar gives a constant warp; overall brightness arrives, which normalized encoders cannot see; labels of the warp sum to one."
    torch.manual_seed(0)
    model, labels = build_synthesizer('cocosnet', replace(TOY, init_gain=1.)).eval(), one_hot(torch.arange(64).view(1, 64, 1).expand(1, 64, 64)//16, S)
    photo = F.interpolate(torch.randn(1, 3, 6, 6)*.3, (64, 64), mode='bicubic').clamp(-1, 1)
    with torch.no_grad():
        flat = model.warp(labels, model.encode(torch.full_like(photo, -.2), labels))[0]
        (warp, classes), (dark, _) = (model.warp(labels, model.encode(x, labels)) for x in (photo, photo*.5-.4))
        first, second = (model(labels, x, labels) for x in (photo, photo*.5-.4))
    assert (flat+.2).abs().max() < 1e-5 and (classes.sum(1)-1).abs().max() < 1e-5
    assert (warp-dark).mean() > .2 and (first-second).abs().mean() > .01


def test_weights_as_published():
    "146.29 million weights for 19 classes, 155.98 for 151 with kernels of three; the compact size within five percent of the full model's."
    def millions(name, config):
        with torch.device('meta'): return sum(p.numel() for p in build_synthesizer(name, config).parameters())/1e6
    assert round(millions('cocosnet', CoCosNetConfig.paper(19)), 2) == 146.29
    assert round(millions('cocosnet', replace(CoCosNetConfig.paper(151), adaptor_kernel=3)), 1) == 156.0
    assert .95 < millions('cocosnet', CoCosNetConfig.compact(S))/millions('msca', SynthesizerConfig.compact(S)) < 1.05


@pytest.mark.parametrize('wrong', [dict(widths=(8, 8)), dict(scales=(1, 2, 3, 4, 5)), dict(scales=(0, 2, 3, 4, 5)), dict(temperature=0), dict(mask_weight=-1),
                                   dict(adaptor_kernel=5), dict(non_local=True, widths=(8, 12, 17, 24, 32))])
def test_wrong_configurations(wrong):
    with pytest.raises(ValueError, match=r'it must'): replace(TOY, **wrong)


@pytest.mark.slow
def test_every_command(tmp_path, capsys):
    "Train, paint, measure, compare, export, explain by the warp; what steers codes or slots is refused in one line."
    given = use_commands('cocosnet', tmp_path)
    assert main(['explain', *given.pair, '--out', str(given.out/'told')]) == 0
    with Image.open(given.layout) as im: size = im.size
    found = {p.name: Image.open(p) for p in (given.out/'told').iterdir()}
    assert sorted(found) == ['picture.png', 'warp.png', 'warped-labels.png'] and len({im.size for im in found.values()}) == 1 and found['warp.png'].size[0] <= size[0]
    check_refused(mix_of(given), 'no code for every class', capsys)
    check_refused(['explain', '--data', given.data, '--model', given.model, '--out', str(given.out/'m.png')], 'no attention', capsys)


def test_contextual_loss_pools_the_finest_of_three_maps():
    "Weights 2, 4, 8 from fine to coarse; only the finest is halved first."
    from msca.relatives.cocosnet import _contextual, contextual_loss
    painted, exemplar = torch.rand(2, 2, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    def maps(x): return [F.avg_pool2d(x, n) for n in (1, 2, 4)]
    fine, coarse = (contextual_loss(F.avg_pool2d(painted, n), F.avg_pool2d(exemplar, n)).mean() for n in (2, 4))
    torch.testing.assert_close(_contextual(maps, painted, exemplar), 2*fine + 4*fine + 8*coarse)
    torch.testing.assert_close(_contextual(lambda x: maps(x)[1:], painted, exemplar), 4*fine + 8*coarse)
