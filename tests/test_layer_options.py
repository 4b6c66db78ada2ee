"Norms and borders as options of training: the run, its checkpoint in every command, resuming, export, and what is refused."
import json
from functools import partial

import numpy as np
import pytest
import torch
from exporting import check_onnx, scene_batch
from PIL import Image
from resuming import train_and_resume

from msca.base.labels import SCENE_LABELS, InputError, one_hot
from msca.commands.cli import main
from msca.data.datasets import ProceduralScenes
from msca.data.render import procedural_scene
from msca.learning.recipe import LossWeights, TrainingConfig
from msca.learning.run import TrainingRun
from msca.model.checkpoint import load_synthesizer, read_config
from msca.model.folded import fold
from msca.model.portable import PortableSynthesizer, export_program, write_portable
from msca.pretrained.models import fold_spectral_norm
from msca.pretrained.synthesizer import Synthesizer
from msca.relatives.layers import LayeredSynthesizer, LayersConfig
from msca.relatives.norms import NORMS, WHOLE

S = len(SCENE_LABELS)
SHAPE = dict(pyramid_widths=(8,)*5, image_channels=(8,)*5, label_channels=(8,)*5, slots=(4,)*5, mlp_width=8, widths=(8, 8, 12, 16, 16), spade_hidden=(8,)*5)
RECIPE = TrainingConfig(size=32, warmup_epochs=1, pretrain_epochs=1, epochs=(1, 1), batch_size=4, lr=1e-3, discriminator_width=8,
                        losses=LossWeights(1, 2, 0, 5, .5), sample_every=6, checkpoint_every=2)
SMALL = '--procedural 16 --size 32 --batch-size 4 --parser-epochs 1 --pretrain-epochs 1 --warmup-epochs 0 --epochs 1,1 --device cpu'.split()


def training(folder, config):
    "A toy training."
    return TrainingRun(folder, ProceduralScenes(13, 64, seed=1), ProceduralScenes(4, 64, seed=2), SCENE_LABELS, RECIPE, config, variant='msca-layers')


@pytest.mark.parametrize('layers', [dict(norm='attentive', borders='class', noise=1), *(pytest.param(o, marks=pytest.mark.slow) for o in (
    dict(norm='region'), dict(norm='instance', borders='class', upsampling='bilinear'), dict(norm='positional')))])
def test_trained_and_resumed_bit_by_bit(layers, tmp_path):
    whole = train_and_resume(partial(training, config=LayersConfig(S, **SHAPE, **layers)), tmp_path, 11)
    model, _, meta = load_synthesizer(tmp_path/'whole')
    assert meta['variant'] == 'msca-layers' and {k: meta['synthesizer'][k] for k in layers} == layers
    kept = whole.networks.average.state_dict()
    assert all(torch.equal(v.cpu(), kept[k]) for k, v in model.state_dict().items())
    columns = (tmp_path/'whole'/'history.csv').read_text().splitlines()[0]
    assert ('orthogonality' in columns) == (layers['norm'] == 'attentive')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A run of the command with both options, and files to paint with."
    folder = tmp_path_factory.mktemp('layers')
    assert main(['train', *SMALL, '--norm', 'region', '--borders', 'class', '--noise', '1', '--out', str(folder/'run')]) == 0
    for i in range(2):
        scene = procedural_scene(i, 64)
        scene.image.save(folder/f'{i}.jpg')
        Image.fromarray(scene.labels).save(folder/f'{i}.png')
    return folder


def test_the_run_keeps_its_options(run):
    meta, options = read_config(run/'run'), json.loads((run/'run'/'options.json').read_text())
    assert (meta['variant'], meta['synthesizer']['norm'], meta['synthesizer']['borders'], meta['synthesizer']['noise']) == ('msca-layers', 'region', 'class', 1)
    assert (options['norm'], options['borders'], options['variant']) == ('region', 'class', 'msca')


@pytest.mark.parametrize('line', [
    'synth --layout 0.png --exemplar 1.jpg --size 64 --out synth.png', 'grid --layouts 0.png 1.png --exemplars 0.jpg 1.jpg --out grid.png',
    'interpolate --layout 0.png --exemplars 0.jpg 1.jpg --steps 3 --out way.png', 'explain --layout 0.png --exemplar 1.jpg --out told', 'labels',
    'boxes --box sky=0,0,1,.5 --procedural 4 --size 64 --out boxes.png --exemplar 0.jpg --picture boxed.png'])
def test_every_command_takes_the_model(run, line, monkeypatch, capsys):
    monkeypatch.chdir(run)
    assert main([*line.split(), '--model', 'run']) == 0, capsys.readouterr().err


def test_a_run_that_starts_from_it_inherits_its_layers(run, capsys, monkeypatch):
    monkeypatch.chdir(run)
    assert main(['train', *SMALL, '--init', 'run', '--out', 'next']) == 0
    assert read_config('next')['synthesizer'] == read_config('run')['synthesizer'] and read_config('next')['variant'] == 'msca-layers'
    capsys.readouterr()
    assert main(['train', '--out', 'run', '--resume', '--norm', 'instance']) == 2
    assert 'was started with --norm region, not instance' in capsys.readouterr().err
    assert main(['train', *SMALL, '--init', 'run', '--norm', 'batch', '--out', 'other']) == 2
    assert 'has another configuration' in capsys.readouterr().err


@pytest.mark.parametrize('options, said', [
    ('--variant sean --norm instance', "--norm: the painter of a 'sean' model has its own layers; --variant msca and no-global can have others"),
    ('--variant tsit --borders class', "--borders: the painter of a 'tsit' model has its own layers"),
    ('--variant gap --borders class', "--borders: the painter of a 'gap' model has its own layers"),
    ('--borders instance', '--borders instance: training is told classes')])
def test_what_has_no_meaning_is_refused_in_one_line(options, said, tmp_path, capsys):
    assert main(['train', *SMALL, *options.split(), '--out', str(tmp_path/'run')]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count('\n') == 1 and not (tmp_path/'run').exists()


def layered(**layers):
    torch.manual_seed(0)
    return LayeredSynthesizer(LayersConfig(S, init_gain=1., **SHAPE, **layers)).eval()


@pytest.mark.parametrize('borders', ['none', 'class'])
@pytest.mark.parametrize('norm', NORMS)
def test_painting_on_a_cpu_is_the_plain_way(norm, borders):
    "Folding, which knows batch norm and plain convolutions alone, leaves these models as they are, and `Synthesizer` paints what the network paints."
    model, scenes = layered(norm=norm, borders=borders), [procedural_scene(i, 64) for i in range(2)]
    assert fold(model) is model
    s = Synthesizer(model, SCENE_LABELS, 64)
    onehot, photo, seen = *s.read_layout(scenes[0]).tensors()[:1], *s.read_exemplar(scenes[1]).tensors()
    with torch.inference_mode(): wanted = model(onehot, photo, seen)[0]
    picture = np.asarray(s(*scenes), int)
    assert np.abs(picture-((wanted.clamp(-1, 1)+1)*127.5).round().permute(1, 2, 0).numpy()).max() <= 1
    mixed = s.interpolate(scenes[0], scenes[1], scenes[1], factors=[.5])[0]
    assert np.abs(np.asarray(mixed, int)-picture).max() <= 1


@pytest.mark.parametrize('norm', NORMS)
def test_large_pictures_are_exact_in_pieces_or_refused(norm):
    s, scene = Synthesizer(layered(norm=norm, borders='class'), SCENE_LABELS, 64), procedural_scene(1, 64)
    layout = np.tile(procedural_scene(0, 64).labels, (1, 8))[:, :480]
    if norm in WHOLE:
        with pytest.raises(InputError, match='cannot be painted piece by piece'): s.panorama(layout, scene)
    else: assert np.abs(np.asarray(s.panorama(layout, scene), int)-np.asarray(s(layout, scene, size=0), int)).max() <= 1


@pytest.mark.parametrize('layers', [dict(norm='region', noise=1, padding='replicate', upsampling='bilinear'), *(pytest.param(o, marks=pytest.mark.slow) for o in (
    dict(norm='attentive'), dict(norm='instance'), dict(norm='positional')))])
def test_onnx_with_free_sides(layers, tmp_path):
    "The ONNX graph agrees with the model for any batch and any sides; regions of few pixels have hardly a variance, and dividing by it enlarges rounding."
    tolerance = 1e-3 if layers['norm'] == 'region' else 1e-4
    check_onnx(layered(**layers), tmp_path, tolerance)


@pytest.mark.slow
def test_a_program_within_borders_is_exact():
    "Of torch's own format; the graph has thousands of nodes, and as ONNX it takes long to write."
    portable = PortableSynthesizer(fold_spectral_norm(layered(norm='instance', borders='class', upsampling='bilinear')).requires_grad_(False))
    program = export_program(portable).module()
    for sizes in ((1, 64, 64, 64, 64), (2, 48, 96, 112, 64)):
        inputs = list(map(torch.from_numpy, scene_batch(*sizes).values()))
        with torch.no_grad(): assert (program(*inputs)-portable(*inputs)).abs().max() < 1e-5


def test_the_page_for_browsers_is_refused_in_one_line(run, capsys, monkeypatch):
    monkeypatch.chdir(run)
    assert main(['export', '--model', 'run', '--format', 'web', '--out', 'page']) == 2
    err = capsys.readouterr().err
    assert "cannot be cut into encode and paint: its painter has other layers than msca's" in err and err.count('\n') == 1


def test_onnx_within_borders_is_refused(tmp_path):
    with pytest.raises(InputError, match='choose --format torch'): write_portable(layered(borders='class'), None, SCENE_LABELS, 64, '', tmp_path/'out', ('onnx',))
    assert not (tmp_path/'out').exists()


def test_bfloat16_training_stays_finite():
    "Under autocast, with holes to fill."
    model, onehot = layered(norm='attentive', borders='class').train(), one_hot(torch.randint(0, S, (2, 32, 32)), S)
    photo = torch.rand(2, 3, 32, 32)*2-1
    with torch.autocast('cpu', torch.bfloat16): loss = (model(onehot, photo, onehot)-photo).abs().mean()
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
