"TSIT from outside: trained, stopped and resumed, exported, every command, and what batch norm does to a style."
import json
from dataclasses import replace
from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch
from resuming import train_and_resume

from msca.base.labels import SCENE_LABELS, one_hot
from msca.commands.cli import main
from msca.data.datasets import ProceduralScenes
from msca.learning.recipe import LossWeights, TrainingConfig
from msca.learning.run import TrainingRun
from msca.model.portable import PortableSynthesizer, export_program, write_onnx
from msca.model.spade import GlobalBatchNorm2d
from msca.model.synthesizer import SynthesizerConfig, build_synthesizer, find_variant, place_noise
from msca.pretrained.models import fold_spectral_norm
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


def scene_batch(b, h, w, eh, ew, seed=0):
    "uint8 layout, exemplar and its labels, in squares of 16."
    rng = np.random.default_rng(seed)
    squares = lambda n, high, width, classes: rng.integers(0, classes, (n, high//16, width//16)).repeat(16, 1).repeat(16, 2).astype(np.uint8)
    return dict(layout=squares(b, h, w, S+2), exemplar=rng.integers(0, 256, (b, eh, ew, 3)).astype(np.uint8), exemplar_layout=squares(b, eh, ew, 6))


@pytest.mark.parametrize('options', [dict(noise=1, padding='replicate', upsampling='bilinear', mean_color=True),
                                     *(pytest.param(o, marks=pytest.mark.slow) for o in (dict(finest=False, fadain='inside', widths=(8,)*7), {}))])
def test_onnx_with_free_sides(options, tmp_path):
    "The ONNX graph agrees with the model for any batch and any sides, to 1e-4; with the options that change the graph."
    torch.manual_seed(0)
    model = build_synthesizer('tsit', replace(TOY, init_gain=1., **options))
    portable = PortableSynthesizer(fold_spectral_norm(model.eval()).requires_grad_(False))
    write_onnx(export_program(portable), portable, tmp_path/'model.onnx')
    graph = onnxruntime.InferenceSession(str(tmp_path/'model.onnx'), providers=['CPUExecutionProvider'])
    for sizes in ((1, 64, 64, 64, 64), (2, 48, 96, 112, 64), (3, 64, 160, 32, 48)):
        inputs = scene_batch(*sizes)
        with torch.no_grad(): wanted = portable(*map(torch.from_numpy, inputs.values())).numpy()
        assert np.abs(graph.run(None, inputs)[0]-wanted).max() < 1e-4 < wanted.std()


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
    small = '--size 32 --batch-size 4 --parser-epochs 0 --warmup-epochs 1 --epochs 1,0 --discriminator-width 8 --device cpu'
    data, out = tmp_path/'data', tmp_path/'out'
    assert main(['scenes', '--n', '20', '--size', '64', '--out', str(data)]) == 0
    for name in ('tsit', 'spade'): assert main(['train', '--procedural', '16', '--variant', name, *small.split(), '--out', str(tmp_path/name)]) == 0
    layout, other = sorted((data/'labels').glob('*.png'))[:2]
    photo, model = next((data/'images').glob(f'{other.stem}.*')), str(tmp_path/'tsit')
    pair = ['--layout', str(layout), '--exemplar', str(photo), '--exemplar-layout', str(other), '--model', model]
    assert main(['synth', *pair, '--out', str(out/'synth.png')]) == 0
    assert main(['eval', '--data', str(data), '--model', model, '--tasks', 'mirroring', '--out', str(out/'report.json')]) == 0
    both = [model, str(tmp_path/'spade')]
    assert main(['compare', '--data', str(data), '--models', *both, '--tasks', 'mirroring', '--out', str(out/'compared')]) == 0
    assert main(['export', '--model', model, '--out', str(out/'exported')]) == 0
    capsys.readouterr()
    assert main(['explain', *pair, '--out', str(out/'told')]) == 2
    said = capsys.readouterr().err
    assert "a 'tsit' model has no attention" in said and said.strip().count('\n') <= 1
    assert main(['mix', '--layout', str(layout), '--style', f'*={photo}', '--exemplar-layout', f'{photo}={other}', '--model', model, '--out', str(out/'m.png')]) == 2
    said = capsys.readouterr().err
    assert 'no code for every class' in said and said.strip().count('\n') <= 1
    assert json.loads((tmp_path/'tsit'/'config.json').read_text())['variant'] == find_variant('tsit').model.variant
