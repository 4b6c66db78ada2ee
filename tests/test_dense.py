"MSCA with a warped exemplar from outside: trained, stopped and resumed, exported, every command, and what cannot be."
from dataclasses import replace

import pytest
import torch
from commanding import check_refused, mix_of, use_commands
from exporting import check_onnx
from PIL import Image
from resuming import train_and_resume

from msca.base.labels import SCENE_LABELS, one_hot
from msca.commands.cli import main
from msca.data.datasets import ProceduralScenes
from msca.learning.history import read_history
from msca.learning.recipe import LossWeights, TrainingConfig
from msca.learning.run import TrainingRun
from msca.model.synthesizer import build_synthesizer, find_variant, join_styles
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


def test_onnx_with_free_sides(tmp_path):
    "The ONNX graph agrees with the model for any batch and any sides, to 1e-4."
    torch.manual_seed(0)
    model = build_synthesizer('dense', replace(TOY, init_gain=1., temperature=.05, noise=1, padding='replicate', upsampling='bilinear'))
    check_onnx(model, tmp_path)


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
    given = use_commands('dense', tmp_path, '--pretrain-epochs', '1')
    out, two = given.out, ['--exemplars', given.photo, given.own, '--exemplar-layouts', given.other, given.layout, '--model', given.model]
    assert main(['grid', '--layouts', given.layout, given.other, *two, '--out', str(out/'grid.png')]) == 0
    for way in (['--steps', '3'], ['--mask', 'left-right']): assert main(['interpolate', '--layout', given.layout, *two, *way, '--out', str(out/'between.png')]) == 0
    wide = ['extrapolate', *given.pair, '--size', '64x96', '--out', str(out/'wide.png')]
    assert main(wide) == 0
    assert main(['explain', *given.pair, '--out', str(out/'told')]) == 0
    found = {p.name: Image.open(p) for p in (out/'told').iterdir()}
    assert sorted(found) == ['picture.png', *(f'scale{i}.png' for i in range(5)), 'summary.png', 'warp.png', 'warped-labels.png']
    assert len({found[n].size for n in ('picture.png', 'warp.png', 'warped-labels.png')}) == 1
    assert main(['explain', '--data', given.data, '--pairs', '3', '--model', given.model, '--out', str(out/'matrix')]) == 0
    check_refused(mix_of(given), 'no code for every class', capsys)
    check_refused([*wide, '--seamless'], 'compares whole pictures', capsys)
