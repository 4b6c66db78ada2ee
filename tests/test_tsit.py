"TSIT from outside: trained, stopped and resumed, exported, every command, and what batch norm does to a style."
import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from commanding import check_refused, mix_of, use_commands
from exporting import check_onnx
from resuming import train_and_resume

from msca.base.labels import SCENE_LABELS, one_hot
from msca.data.datasets import ProceduralScenes
from msca.learning.recipe import LossWeights, TrainingConfig
from msca.learning.run import TrainingRun
from msca.model.spade import GlobalBatchNorm2d
from msca.model.synthesizer import SynthesizerConfig, build_synthesizer, find_variant, place_noise
from msca.relatives.ablations import variant_recipe
from msca.relatives.tsit import TSITConfig, fadain, feature_statistics

torch.set_num_threads(1)
S = len(SCENE_LABELS)
TOY = TSITConfig(S, widths=(8, 12, 16, 24, 32))
RECIPE = TrainingConfig(size=32, warmup_epochs=1, epochs=(1, 1), batch_size=4, lr=1e-3, discriminator_width=8, losses=LossWeights(1, 2, 0, 5, .5),
                        sample_every=6, checkpoint_every=2)


def training(folder, name):
    "A toy training."
    variant, config = variant_recipe(name, RECIPE)
    return TrainingRun(folder, ProceduralScenes(13, 64, seed=1), ProceduralScenes(4, 64, seed=2), SCENE_LABELS, config, TOY, variant=variant)


@pytest.mark.parametrize('name', ['tsit', pytest.param('tsit-cross', marks=pytest.mark.slow)])
def test_trained_and_resumed_bit_by_bit(name, tmp_path):
    "A whole training, and one that crashed and went on: the same history and weights."
    train_and_resume(partial(training, name=name), tmp_path, 9)


@pytest.mark.parametrize('options', [dict(noise=1, padding='replicate', upsampling='bilinear', mean_color=True),
                                     *(pytest.param(o, marks=pytest.mark.slow) for o in (dict(finest=False, fadain='inside', widths=(8,)*7), {}))])
def test_onnx_with_free_sides(options, tmp_path):
    "The ONNX graph agrees with the model for any batch and any sides, to 1e-4; with the options that change the graph."
    torch.manual_seed(0)
    model = build_synthesizer('tsit', replace(TOY, init_gain=1., **options))
    check_onnx(model, tmp_path)


@pytest.mark.parametrize('options', [{}, dict(fadain='inside', mean_color=True), dict(finest=False, widths=(8,)*8), dict(noise=2)])
def test_odd_inputs(options):
    "Everything unlabelled, a batch of one, the smallest pictures, exemplar and target of different sizes; eval twice gives equal bits."
    torch.manual_seed(0)
    model = build_synthesizer('tsit', replace(TOY, **options)).eval()
    labels = one_hot(torch.zeros(1, 48, 32).long(), S)
    for target, exemplar in (((32, 48), (48, 32)), ((16, 16), (16, 16)), ((64, 16), (16, 64))):
        nothing, photo = one_hot(torch.full((1, *target), 255), S), torch.rand(1, 3, *exemplar)*2-1
        with torch.no_grad(): picture, again = (model(nothing, photo, labels) for _ in range(2))
        assert picture.shape == (1, 3, *target) and picture.isfinite().all() and torch.equal(picture, again)


def test_a_style_is_its_statistics():
    "Adapting to the content's own statistics changes nothing; exemplars of other structure and other seeds change the picture."
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8, 6)*3+1
    assert (fadain(x, feature_statistics(x))-x).abs().max() < 1e-3
    model, labels = build_synthesizer('tsit', replace(TOY, init_gain=1.)).eval(), one_hot(torch.arange(64).view(1, 64, 1).expand(1, 64, 64)//16, S)
    coarse = torch.nn.functional.interpolate(torch.randn(1, 3, 4, 4), (64, 64), mode='bicubic').clamp(-1, 1)
    fine = torch.randn(1, 3, 64, 64).mul(.5).clamp(-1, 1)
    with torch.no_grad():
        first, second = (model(labels, photo, labels) for photo in (coarse, fine))
        assert place_noise(model, 3)
        reseeded = model(labels, coarse, labels)
    assert (reseeded-first).std() > .01 and (second-first).std() > .03


@pytest.mark.parametrize('kind, batch, matters', [('before', 1, False), ('before', 4, True), ('inside', 1, True)])
def test_a_batch_of_one_loses_the_style(kind, batch, matters):
    "With batch statistics over one picture the styles behind normalized shortcuts have no effect and get no gradient; in larger batches and repaired they do."
    torch.manual_seed(0)
    model = build_synthesizer('tsit', TSITConfig(S, widths=(4, 8, 16, 32, 48), finest=False, fadain=kind)).eval()
    for m in model.modules():
        if isinstance(m, GlobalBatchNorm2d): m.train()
    labels = one_hot(torch.arange(64).view(1, 64, 1).expand(batch, 64, 64)//16, S)
    blown = lambda n: torch.nn.functional.interpolate(torch.randn(1, 3, n, n), (64, 64), mode='bicubic').clamp(-1, 1)  # structure of a size
    photos, others = (torch.cat([blown(n) for n in sizes[:batch]]) for sizes in ((4, 9, 17, 64), (40, 5, 3, 12)))
    with torch.no_grad(): picture, other = (model.paint(labels, model.encode(x)) for x in (photos, others))
    assert ((other-picture).std()/picture.std() > 1e-3) == matters
    style = model.encode(photos)
    given = [type(s)(*(t.detach().requires_grad_() for t in s)) for s in style]
    (model.paint(labels, given)*torch.randn_like(picture)).sum().backward()
    reached = sum(float(t.grad.abs().sum()) for s in given for t in s)
    assert (reached > .1) == matters, reached


def test_weights_as_published():
    "398.09 million weights for style transfer; the compact size within five percent of the full model's."
    def millions(name, config):
        with torch.device('meta'): return sum(p.numel() for p in build_synthesizer(name, config).parameters())/1e6
    assert round(millions('tsit', TSITConfig.paper(1, 'photo')), 2) == 398.09
    assert .95 < millions('tsit', TSITConfig.compact(S))/millions('msca', SynthesizerConfig.compact(S)) < 1.05


@pytest.mark.parametrize('wrong', [dict(widths=(8,)), dict(widths=(8, 0)), dict(fadain='behind'), dict(content='words'), dict(spade_kernel=2)])
def test_wrong_configurations(wrong):
    with pytest.raises(ValueError, match=f'{next(iter(wrong))} is .*; it must be'): replace(TOY, **wrong)


@pytest.mark.slow
def test_every_command(tmp_path, capsys):
    "Train, paint, measure, compare, export; what steers attention or codes is refused in one line."
    given = use_commands('tsit', tmp_path)
    check_refused(['explain', *given.pair, '--out', str(given.out/'told')], "a 'tsit' model has no attention", capsys)
    check_refused(mix_of(given), 'no code for every class', capsys)
    assert json.loads((tmp_path/'tsit'/'config.json').read_text())['variant'] == find_variant('tsit').model.variant
