"MSCA with a warped exemplar from outside: trained, stopped and resumed, exported, every command, and what cannot be."
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from resuming import train_and_resume

from msca.base.labels import SCENE_LABELS, one_hot
from msca.commands.cli import main
from msca.data.datasets import ProceduralScenes
from msca.learning.history import read_history
from msca.learning.recipe import LossWeights, TrainingConfig
from msca.learning.run import TrainingRun
from msca.model.portable import PortableSynthesizer, export_program, write_onnx
from msca.model.synthesizer import build_synthesizer, find_variant, join_styles
from msca.pretrained.models import fold_spectral_norm
from msca.relatives.ablations import variant_recipe
from msca.relatives.dense import DenseConfig

torch.set_num_threads(1)
S = len(SCENE_LABELS)
EIGHT = (8,)*5
TOY = DenseConfig(S, widths=(8, 12, 16, 24, 32), spade_hidden=EIGHT, pyramid_widths=EIGHT, image_channels=EIGHT, label_channels=EIGHT, slots=(4,)*5,
                  mlp_width=8, matching_channels=8, mask_weight=5.)
RECIPE = TrainingConfig(size=32, pretrain_epochs=1, warmup_epochs=1, epochs=(1, 1), batch_size=4, lr=1e-3, discriminator_width=8,
                        losses=LossWeights(1, 2, 0, 5, .5), sample_every=6, checkpoint_every=2)


def training(folder):
    "A toy training, pre-training of the attention included."
    variant, config = variant_recipe('dense', RECIPE)
    assert (variant, config) == ('dense', RECIPE)  # trained as msca is
    return TrainingRun(folder, ProceduralScenes(13, 64, seed=1), ProceduralScenes(4, 64, seed=2), SCENE_LABELS, config, TOY, variant=variant)


def test_trained_and_resumed_bit_by_bit(tmp_path):
    "A whole training, and one that crashed and went on: the same history and weights; both terms and the warp's quality in the history."
    rows = [r for r in read_history(train_and_resume(training, tmp_path, 9).folder) if r['phase'] != 'pretrain']
    for row in rows:
        assert row['regularization'] == pytest.approx(row['domain']+row['mask'], rel=1e-4) and min(row['domain'], row['mask']) >= 0
        assert 0 <= row['warp_labels'] <= 1 and row['warp_error'] > 0
    assert rows[-1]['mask'] < rows[0]['mask']


def scene_batch(b, h, w, eh, ew, seed=0):
    "uint8 layout, exemplar and its labels, in squares of 16."
    rng = np.random.default_rng(seed)
    squares = lambda n, high, width, classes: rng.integers(0, classes, (n, high//16, width//16)).repeat(16, 1).repeat(16, 2).astype(np.uint8)
    return dict(layout=squares(b, h, w, S+2), exemplar=rng.integers(0, 256, (b, eh, ew, 3)).astype(np.uint8), exemplar_layout=squares(b, eh, ew, 6))


def test_onnx_with_free_sides(tmp_path):
    "The ONNX graph agrees with the model for any batch and any sides, to 1e-4."
    torch.manual_seed(0)
    model = build_synthesizer('dense', replace(TOY, init_gain=1., temperature=.05, noise=1, padding='replicate', upsampling='bilinear'))
    portable = PortableSynthesizer(fold_spectral_norm(model.eval()).requires_grad_(False))
    write_onnx(export_program(portable), portable, tmp_path/'model.onnx')
    graph = onnxruntime.InferenceSession(str(tmp_path/'model.onnx'), providers=['CPUExecutionProvider'])
    for sizes in ((1, 64, 64, 64, 64), (2, 48, 96, 112, 64), (3, 64, 160, 32, 48)):
        inputs = scene_batch(*sizes)
        with torch.no_grad(): wanted = portable(*map(torch.from_numpy, inputs.values())).numpy()
        assert np.abs(graph.run(None, inputs)[0]-wanted).max() < 1e-4 < wanted.std()


def test_odd_inputs():
    "Everything unlabelled, the smallest pictures, exemplar and target of different sizes; eval twice gives equal bits; unequal sizes are refused."
    torch.manual_seed(0)
    model = build_synthesizer('dense', TOY).eval()
    for target, exemplar in (((32, 48), (48, 32)), ((16, 16), (16, 16)), ((64, 16), (16, 64))):
        nothing, photo = one_hot(torch.full((1, *target), 255), S), torch.rand(1, 3, *exemplar)*2-1
        for labels in (one_hot(torch.zeros(1, *exemplar).long(), S), one_hot(torch.full((1, *exemplar), 255), S)):
            with torch.no_grad(): picture, again = (model(nothing, photo, labels) for _ in range(2))
            assert picture.shape == (1, 3, *target) and picture.isfinite().all() and torch.equal(picture, again)
    with pytest.raises(ValueError, match='must be of one size'): model.encode(torch.zeros(1, 3, 32, 32), one_hot(torch.zeros(1, 16, 32).long(), S))
    with pytest.raises(ValueError, match='multiples of 16'): model.encode(torch.zeros(1, 3, 40, 32), one_hot(torch.zeros(1, 40, 32).long(), S))


def test_msca_is_inside():
    "With a condition that is not looked at the pictures are msca's: what is added is the warp and nothing else."
    torch.manual_seed(0)
    dense, msca = (build_synthesizer(n, find_variant(n).config.from_dict({k: v for k, v in TOY.to_dict().items() if k in find_variant(n).config(S).to_dict()})).eval()
                   for n in ('dense', 'msca'))
    weights = dense.state_dict()
    own = {k: v[:, :weights[k].shape[1]-3] if v.shape != msca.state_dict()[k].shape else v for k, v in weights.items() if k in msca.state_dict()}
    cut = [k for k in own if own[k].shape != weights[k].shape]
    assert cut and all(k.startswith('generator.blocks.0.spade_') and k.endswith('shared.weight') for k in cut)
    msca.load_state_dict(own)
    for k in cut: dense.get_parameter(k).data[:, -3:] = 0
    labels, photo = one_hot(torch.arange(64).view(1, 64, 1).expand(1, 64, 64)//16, S), torch.rand(1, 3, 64, 64)*2-1
    with torch.no_grad(): assert torch.allclose(dense(labels, photo, labels), msca(labels, photo, labels), atol=1e-5)


def test_joined_exemplars_of_two_sizes():
    "Places of the larger one are not seen by the other."
    torch.manual_seed(0)
    model, labels = build_synthesizer('dense', replace(TOY, init_gain=1.)).eval(), one_hot(torch.arange(64).view(1, 64, 1).expand(1, 64, 64)//16, S)
    photo = torch.rand(1, 3, 64, 64)*2-1
    with torch.no_grad():
        one, two = model.encode(photo, labels), model.encode(photo[..., :16], labels[..., :16])
        both = model.paint(labels.expand(2, -1, -1, -1), join_styles([one, two]))
        assert (both-torch.cat([model.paint(labels, s) for s in (one, two)])).abs().max() < 1e-4


@pytest.mark.slow
def test_every_command(tmp_path, capsys):
    "Train, paint, a grid, interpolate, extrapolate, measure, compare, export, explain by both; what needs codes, pieces or rows of slots is refused in one line."
    small = '--size 32 --batch-size 4 --parser-epochs 0 --pretrain-epochs 1 --warmup-epochs 1 --epochs 1,0 --discriminator-width 8 --device cpu'
    data, out = tmp_path/'data', tmp_path/'out'
    assert main(['scenes', '--n', '20', '--size', '64', '--out', str(data)]) == 0
    for name in ('dense', 'spade'): assert main(['train', '--procedural', '16', '--variant', name, *small.split(), '--out', str(tmp_path/name)]) == 0
    layout, other = sorted((data/'labels').glob('*.png'))[:2]
    photo, model = next((data/'images').glob(f'{other.stem}.*')), str(tmp_path/'dense')
    own = next((data/'images').glob(f'{layout.stem}.*'))
    pair = ['--layout', str(layout), '--exemplar', str(photo), '--exemplar-layout', str(other), '--model', model]
    two = ['--exemplars', str(photo), str(own), '--exemplar-layouts', str(other), str(layout), '--model', model]
    assert main(['synth', *pair, '--out', str(out/'synth.png')]) == 0
    assert main(['grid', '--layouts', str(layout), str(other), *two, '--out', str(out/'grid.png')]) == 0
    for way in (['--steps', '3'], ['--mask', 'left-right']): assert main(['interpolate', '--layout', str(layout), *two, *way, '--out', str(out/'between.png')]) == 0
    assert main(['extrapolate', *pair, '--size', '64x96', '--out', str(out/'wide.png')]) == 0
    assert main(['eval', '--data', str(data), '--model', model, '--tasks', 'mirroring', '--out', str(out/'report.json')]) == 0
    assert main(['compare', '--data', str(data), '--models', model, str(tmp_path/'spade'), '--tasks', 'mirroring', '--out', str(out/'compared')]) == 0
    assert main(['export', '--model', model, '--out', str(out/'exported')]) == 0
    assert main(['explain', *pair, '--out', str(out/'told')]) == 0
    found = {p.name: Image.open(p) for p in (out/'told').iterdir()}
    assert sorted(found) == ['picture.png', *(f'scale{i}.png' for i in range(5)), 'summary.png', 'warp.png', 'warped-labels.png']
    assert len({found[n].size for n in ('picture.png', 'warp.png', 'warped-labels.png')}) == 1
    assert main(['explain', '--data', str(data), '--pairs', '3', '--model', model, '--out', str(out/'matrix')]) == 0
    capsys.readouterr()
    wide = ['--layout', str(layout), '--exemplar', str(photo), '--exemplar-layout', str(other), '--size', '64x96', '--seamless']
    for argv, says in ((['mix', '--layout', str(layout), '--style', f'*={photo}', '--exemplar-layout', f'{photo}={other}'], 'no code for every class'),
                       (['extrapolate', *wide], 'compares whole pictures')):
        assert main([*argv, '--model', model, '--out', str(out/'m.png')]) == 2
        said = capsys.readouterr().err
        assert says in said and said.strip().count('\n') <= 1
