"The models to compare, from the outside: one interface, checkpoints that name their variant, steering or its refusal, learning."
import json
import subprocess
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

warnings.filterwarnings('ignore', category=FutureWarning)

from msca.base.labels import SCENE_LABELS, InputError, one_hot
from msca.data.layouts import procedural_layout
from msca.data.render import render
from msca.data.scene import image_to_tensor
from msca.data.styles import procedural_style
from msca.learning.learner import AttentionPretrainer
from msca.learning.recipe import STAGE_TASKS, TrainingConfig
from msca.model.checkpoint import load_synthesizer, save_synthesizer
from msca.model.synthesizer import VARIANTS, SynthesizerConfig, build_synthesizer, find_variant, join_styles
from msca.model.tiles import cut_tiles, encode_in_tiles, paint_in_tiles
from msca.pretrained.models import fold_spectral_norm
from msca.relatives.ablations import RECIPES, variant_recipe
from msca.relatives.cocosnet import CoCosNetConfig
from msca.relatives.groupdnet import GroupDNetConfig
from msca.relatives.sean import SEANConfig
from msca.relatives.spade_vae import VAEConfig
from msca.relatives.tsit import TSITConfig
from msca.steering.explain import explain_synthesis
from msca.steering.interpolation import interpolate_styles, read_target

torch.set_num_threads(1)
ROOT, S = Path(__file__).parents[1], len(SCENE_LABELS)
EIGHT, PAINTER = (8,)*5, dict(widths=(8, 12, 16, 24, 32), spade_hidden=(8,)*5)
VAE = VAEConfig(S, **PAINTER, encoder_widths=(8, 12, 16), style_channels=8, start_side=2)
SEAN = SEANConfig(S, **PAINTER, code_channels=8, encoder_width=4)
GROUPDNET = GroupDNetConfig(S, (12, 12, 18, 36, 36), (12, 12, 36, 72, 72), groups=(1, 3, 9, 18, 18), encoder_widths=(4, 6, 8), code_channels=4)
TSIT = TSITConfig(S, widths=(8, 12, 16, 24, 32))
COCOSNET = CoCosNetConfig(S, **PAINTER, adaptor_width=4, adaptor_hidden=8, matching_channels=8, matching_blocks=1)
ATTENTIVE, BY_CLASS, SPADES = ('msca', 'gap', 'no-gate'), ('no-attention', 'no-attention-literal'), ('spade', 'spade-vae')
CODED, STREAMS, DENSE = ('sean', 'groupdnet'), ('tsit',), ('cocosnet',)


def toy(variant, seed=0, **changes):
    "A small model of a variant, in training mode."
    torch.manual_seed(seed)
    kind, known = find_variant(variant).config, {'spade-vae': VAE, 'sean': SEAN, 'groupdnet': GROUPDNET, 'tsit': TSIT, 'cocosnet': COCOSNET}
    if variant in known: config = known[variant]
    elif variant == 'spade': config = kind(S, **PAINTER)
    else: config = kind(S, **PAINTER, pyramid_widths=EIGHT, image_channels=EIGHT, label_channels=EIGHT, slots=(4,)*5, mlp_width=8)
    return build_synthesizer(variant, replace(config, **changes))


def tensors(pairs, size=32):
    "Photos and one-hot labels of (layout, style) pairs."
    scenes = [render(procedural_layout(layout), procedural_style(style), size) for layout, style in pairs]
    return torch.stack([image_to_tensor(s.image) for s in scenes]), one_hot(torch.stack([torch.tensor(s.labels).long() for s in scenes]), S)


@pytest.fixture(scope='module')
def pairs():
    "Two layouts in two styles, with the other layout in the same style as exemplar: (x1, c1, x2, c2)."
    x1, c1 = tensors([(layout, style) for layout in (29, 37) for style in (23, 30)])
    return x1, c1, x1[[2, 3, 0, 1]], c1[[2, 3, 0, 1]]


def test_the_variants_are_these():
    assert list(VARIANTS) == ['msca', *ATTENTIVE[1:], *BY_CLASS, *SPADES, *CODED, *STREAMS, *DENSE, 'dense', 'msca-layers']
    for name in VARIANTS: assert find_variant(name).model.variant == name


@pytest.mark.parametrize('name', VARIANTS)
def test_one_interface(name, pairs):
    "Any sizes and a mask in, a picture in [-1, 1] out, the same one twice; every weight gets a gradient; the configuration survives JSON."
    x1, c1, x2, c2 = pairs
    model = toy(name)
    (model(c1, x2, c2).square().sum() + sum(model.regularization().values())).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    wide, mask = F.pad(c1, (0, 16, 0, 0), mode='replicate'), torch.ones(4, 1, 32, 48)
    with torch.no_grad(): pictures = [model.eval()(wide, x2, c2, mask) for _ in range(2)]
    assert pictures[0].shape == (4, 3, 32, 48) and pictures[0].abs().max() <= 1 and torch.equal(*pictures)
    conditions, maps = model.transfer(wide, x2, c2, mask)
    assert [c.shape[2:] for c in conditions] == [(32 >> i, 48 >> i) for i in range(5)] and len(maps) in (0, 5)
    assert (maps == []) == (name in (*SPADES, *CODED, *STREAMS, *DENSE))
    assert type(model.config).from_dict(json.loads(json.dumps(model.config.to_dict()))) == model.config
    for size in ('compact', 'paper'): assert getattr(find_variant(name).config, size)(182).n_labels == 182


@pytest.mark.parametrize('name', VARIANTS)
def test_learns(name, pairs):
    "A few updates of L1 on four pictures."
    x1, c1, x2, c2 = pairs
    model, losses = toy(name), []
    opt = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(16):
        l1 = F.l1_loss(model(c1, x2, c2), x1)
        opt.zero_grad()
        (10*l1 + sum(model.regularization().values())).backward()
        opt.step()
        losses.append(float(l1.detach()))
    assert losses[-1] < .75*losses[0]


@pytest.mark.parametrize('name', VARIANTS)
def test_encoding_and_painting_is_synthesis(name, pairs):
    "Exemplars encoded one by one, at two sizes, then joined; targets with padding; also under bfloat16 autocast."
    _, c1, x2, c2 = pairs
    model, mask = toy(name, init_gain=1.).eval(), torch.ones(2, 1, 32, 32)
    mask[..., 20:] = 0
    exemplars = [(x2[:1], c2[:1]), (x2[1:2, ..., :16], c2[1:2, ..., :16])]
    with torch.no_grad():
        style = join_styles([model.encode(*e) for e in exemplars])
        wanted = torch.cat([model(c1[i:i+1], *e, mask[:1]) for i, e in enumerate(exemplars)])
        tolerance = 1e-3 if name == 'no-attention-literal' else 1e-5  # sums over a class are large numbers
        assert (model.paint(c1[:2], style, mask)-wanted).abs().max() < tolerance
        assert torch.equal(model.paint(c1[:1], model.encode(*exemplars[0]), mask[:1]), wanted[:1])
        with torch.autocast('cpu', torch.bfloat16):
            rounded = model.paint(c1[:2], join_styles([model.encode(*e) for e in exemplars]), mask).float()
        assert (rounded-wanted).abs().mean() < .05*wanted.std() + .01


@pytest.mark.parametrize('name', VARIANTS)
def test_bfloat16_and_folding(name, pairs):
    "Under bfloat16 autocast the picture stays close; folding spectral norm, as loading for use does, changes nothing."
    _, c1, x2, c2 = pairs
    model = toy(name, init_gain=1.).eval()
    with torch.no_grad():
        exact = model(c1, x2, c2)
        with torch.autocast('cpu', torch.bfloat16): rounded = model(c1, x2, c2).float()
        assert (rounded-exact).abs().mean() < .05*exact.std() + .01
        assert (fold_spectral_norm(model)(c1, x2, c2) - exact).abs().max() < 1e-5


def test_checkpoints_name_their_variant(pairs, tmp_path):
    "A process that knows nothing but `load_synthesizer` gets every variant back, importing its module only when it is asked for."
    _, c1, x2, c2 = pairs
    pictures = {}
    for name in VARIANTS:
        model = toy(name).eval()
        save_synthesizer(model, SCENE_LABELS, 32, tmp_path/name)
        assert json.loads((tmp_path/name/'config.json').read_text())['variant'] == name
        with torch.no_grad(): pictures[name] = model(c1, x2, c2)
    torch.save((c1, x2, c2, pictures), tmp_path/'pictures.pt')
    code = f'''
import sys, torch
from pathlib import Path
from msca.model.checkpoint import load_synthesizer
root = Path({str(tmp_path)!r})
c1, x2, c2, pictures = torch.load(root/'pictures.pt')
load_synthesizer(root/'msca')
assert not {{'msca.relatives.ablations', 'msca.relatives.spade_vae', 'fastai'}} & set(sys.modules)
for name, picture in pictures.items():
    model, _, meta = load_synthesizer(root/name)
    assert meta['variant'] == model.variant == name and not model.training
    with torch.no_grad(): assert torch.equal(model(c1, x2, c2), picture), name
assert 'fastai' not in sys.modules
'''
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


def test_checkpoints_that_lie(tmp_path):
    "Another variant's name, an unknown one, a module's path: one line with the file's name, and nothing is imported."
    save_synthesizer(toy('spade'), SCENE_LABELS, 32, tmp_path/'spade')
    save_synthesizer(toy('gap'), SCENE_LABELS, 32, tmp_path/'gap')
    for folder, variant, says in (('spade', 'spade-vae', 'fit'), ('gap', 'msca', 'fit'), ('gap', 'spade', 'unknown configuration fields'),
                                  ('gap', 'antigravity', 'no variant'), ('gap', 'msca.relatives.ablations', 'no variant'),
                                  ('gap', ['gap'], 'no variant')):
        path = tmp_path/folder/'config.json'
        good = path.read_text()
        path.write_text(json.dumps(json.loads(good) | dict(variant=variant)))
        with pytest.raises(InputError) as e: load_synthesizer(tmp_path/folder)
        path.write_text(good)
        assert says in str(e.value) and str(tmp_path/folder) in str(e.value) and '\n' not in str(e.value)
    assert 'antigravity' not in sys.modules


@pytest.mark.parametrize('wrong', [dict(encoder_widths=()), dict(encoder_widths=(8, 0)), dict(style_channels=0), dict(start_side=1.5),
                                   dict(kl_weight=-1),
                                   dict(kl_weight=float('nan')), dict(widths=(8,)*4)])
def test_wrong_configurations(wrong):
    with pytest.raises(ValueError, match=f'{next(iter(wrong))} is .*; it must be'): replace(VAE, **wrong)


@pytest.mark.parametrize('name', ['gap', 'no-gate'])
def test_steering_works_where_there_are_slots(name, pairs):
    "Interpolation with all the weight on one exemplar, tiles, and explanation agree with plain synthesis."
    _, c1, x2, c2 = pairs
    model = toy(name, init_gain=1.).eval()
    with torch.no_grad(): plain = model(c1[:1], x2[:1], c2[:1])
    with torch.inference_mode(): target, styles = read_target(model, c1[:1]), [model.encode(x2[i:i+1], c2[i:i+1]) for i in (0, 1)]
    assert (interpolate_styles(model, target, styles, [1, 0])-plain).abs().max() < 1e-5
    between = interpolate_styles(model, target, styles, [.5, .5])
    assert (between-plain).abs().max() > 1e-3
    told = explain_synthesis(model, SCENE_LABELS, c1[:1], x2[:1], c2[:1])
    assert len(told.maps) == 5 and told.maps[0].gate.eq(1).all()
    arrays = [t.numpy() for t in (c1[0].argmax(0).byte(), ((x2[0]+1)*127.5).round().byte().permute(1, 2, 0), c2[0].argmax(0).byte())]

    def in_tiles(side):
        style = encode_in_tiles(model, *arrays[1:], cut_tiles(32, 32, side, 32))
        return paint_in_tiles(model, arrays[0], (32, 32), style, side, 32)

    whole, tiled = map(in_tiles, (32, 16))
    assert np.abs(np.asarray(whole, int) - np.asarray(tiled, int)).max() <= 1


@pytest.mark.parametrize('name', [*BY_CLASS, *SPADES, *CODED, *STREAMS, *DENSE])
def test_steering_is_refused_where_there_are_none(name, pairs):
    _, c1, x2, c2 = (t[:1] for t in pairs)
    model = toy(name).eval()
    style, target = model.encode(x2, c2), read_target(toy('msca').eval(), c1)
    with pytest.raises(InputError, match='no attention'): interpolate_styles(model, target, [style, style], [.5, .5])
    arrays = [t.numpy() for t in (c1[0].argmax(0).byte(), ((x2[0]+1)*127.5).byte().permute(1, 2, 0), c2[0].argmax(0).byte())]
    with pytest.raises(InputError, match='no attention'): encode_in_tiles(model, *arrays[1:], cut_tiles(32, 32))
    with pytest.raises(InputError, match='no attention'): paint_in_tiles(model, arrays[0], (32, 32), style)
    if name not in BY_CLASS:
        with pytest.raises(InputError, match='no attention'): explain_synthesis(model, SCENE_LABELS, c1, x2, c2)
    else: assert explain_synthesis(model, SCENE_LABELS, c1, x2, c2).figure(4)


@pytest.mark.parametrize('name', [*ATTENTIVE, *BY_CLASS, 'dense'])
def test_what_comes_before_the_painter_can_be_pretrained(name, pairs):
    x1, c1, x2, c2 = pairs
    pretrainer, losses = AttentionPretrainer(toy(name)), []
    opt, truths = torch.optim.Adam(pretrainer.parameters(), 1e-2), pretrainer.targets(x1)
    for _ in range(15):
        loss = sum(F.l1_loss(p, t) for p, t in zip(pretrainer(c1, x2, c2), truths))
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < .8*losses[0]


def test_draws_of_a_resumed_training(pairs):
    "SPADE-VAE, stopped after three updates and resumed, gives the losses of a whole training: its draws depend on the iteration alone."
    x1, c1, x2, c2 = pairs

    def updates(model, opt, iterations):
        losses = []
        for i in iterations:
            torch.manual_seed(i)  # as `EpochPosition` does
            loss = F.l1_loss(model(c1, x2, c2), x1) + sum(model.regularization().values())
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(float(loss.detach()))
        return losses

    start = lambda seed: (model := toy('spade-vae', seed), torch.optim.Adam(model.parameters(), 1e-3))
    whole, stopped, resumed = start(0), start(0), start(1)
    expected = updates(*whole, range(6))
    first = updates(*stopped, range(3))
    for mine, theirs in zip(resumed, stopped): mine.load_state_dict(theirs.state_dict())
    torch.manual_seed(99)
    assert first + updates(*resumed, range(3, 6)) == expected


@dataclass(frozen=True)
class FullRecipe(TrainingConfig):
    "Training settings with the two fields that recipes of SPADE's models set."
    stages:tuple = (1, 2)
    pair_discriminator:bool = True


def test_recipes():
    "Every model to compare gets as many batches as the full one; only what is said to change changes."
    full = FullRecipe(epochs=(3, 5), pretrain_epochs=2)
    batches = lambda c: sum(e*len(STAGE_TASKS[stage]) for e, stage in zip(c.epochs, c.stages))
    for name in (*VARIANTS, *RECIPES):
        variant, config = variant_recipe(name, full)
        assert variant in VARIANTS and batches(config) == batches(full)
        if name in (*ATTENTIVE, *BY_CLASS): assert (variant, config) == (name, full)
    assert variant_recipe('no-global', full) == ('msca', replace(full, epochs=(13, 0)))
    assert variant_recipe('spade', full) == ('spade', replace(full, pretrain_epochs=0, pair_discriminator=False))
    assert variant_recipe('spade-vae', full) == ('spade-vae',
                                                 replace(full, pretrain_epochs=0, pair_discriminator=False, epochs=(3, 10), stages=(3, 3)))
    for name in ('spade-vae', *CODED, *STREAMS): assert variant_recipe(f'{name}-cross', full) == (name, replace(full, pretrain_epochs=0))
    assert variant_recipe('cocosnet', full) == ('cocosnet', replace(full, pretrain_epochs=0))
    assert variant_recipe('cocosnet-retrieved', full) == ('cocosnet', replace(full, pretrain_epochs=0, pair_discriminator=False, stages=(1, 4)))
    for name in (*CODED, *STREAMS): assert variant_recipe(name, full)[1] == variant_recipe('spade-vae', full)[1]
    with pytest.raises(InputError, match='no model to compare; there are msca, gap'): variant_recipe('pix2pix', full)


def test_one_training_step_of_the_paper_configuration():
    "The benchmark's step with narrow layers: the generator's weights move, VGG stays; two biases of the discriminator may stand still."
    sys.path.insert(0, str(ROOT/'benchmarks'))
    from paper_config import measure
    narrow = replace(SynthesizerConfig.paper(S), image_channels=EIGHT, label_channels=EIGHT, widths=EIGHT, spade_hidden=EIGHT)
    done = measure(narrow, 32, discriminator_width=8)
    moved = {k: [int(n) for n in v.split(' of ')] for k, v in done['training_step']['tensors_moved'].items()}
    assert moved['generator'][0] == moved['generator'][1] and moved['discriminator'][0] >= moved['discriminator'][1]-2
    assert set(done['training_step']['losses']) >= {'adversarial', 'feature_matching', 'perceptual', 'discriminator'}
    assert done['parameters']['vgg19'] == json.loads((ROOT/'results'/'paper_config.json').read_text())['parameters']['vgg19']


@pytest.mark.slow
@pytest.mark.parametrize('name', [*ATTENTIVE, *BY_CLASS, *SPADES])
def test_paper_size(name):
    "Millions of weights that learn, as the notebook says."
    with torch.device('meta'): model = build_synthesizer(name, find_variant(name).config.paper(182), None)
    millions = sum(p.numel() for p in model.parameters() if p.requires_grad)/1e6
    assert 49 < millions < 53 if name != 'spade-vae' else 74 < millions < 76
