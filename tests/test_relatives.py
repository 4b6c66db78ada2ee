"SEAN and GroupDNet from outside: trained, stopped and resumed, exported, and what a code of one class may change."
import json
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from exporting import check_onnx
from fastai.callback.core import Callback
from resuming import train_and_resume

from msca.base.labels import SCENE_LABELS, InputError, one_hot
from msca.commands.cli import main
from msca.data.datasets import ProceduralScenes
from msca.data.layouts import procedural_layout
from msca.data.render import procedural_scene, render
from msca.data.styles import procedural_style
from msca.learning.history import read_history
from msca.learning.recipe import LossWeights, TrainingConfig
from msca.learning.run import TrainingRun
from msca.model.checkpoint import load_synthesizer
from msca.model.folded import fold
from msca.model.spade import GlobalBatchNorm2d
from msca.model.synthesizer import SynthesizerConfig, build_synthesizer, find_variant
from msca.pretrained.synthesizer import Synthesizer
from msca.relatives.ablations import variant_recipe
from msca.relatives.groupdnet import CGNorm, GroupDNetConfig
from msca.relatives.sean import ClassLinear, SEANConfig, SEANLayer
from msca.steering.class_styles import has_distribution, paint_mixed, read_codes, redraw, unseen_classes
from msca.steering.masks import class_masks, linear_masks

torch.set_num_threads(1)
S = len(SCENE_LABELS)
SEAN = SEANConfig(S, widths=(8, 12, 16, 24, 32), spade_hidden=(8,)*5, code_channels=8, encoder_width=4)
GROUPDNET = GroupDNetConfig(S, (12, 12, 18, 36, 36), (12, 12, 36, 72, 72), groups=(1, 3, 9, 18, 18), encoder_widths=(4, 6, 8), code_channels=4)
TOYS = {'sean': SEAN, 'groupdnet': GROUPDNET}
RECIPE = TrainingConfig(size=32, warmup_epochs=1, epochs=(1, 1), batch_size=4, lr=1e-3, betas=(0., .9), discriminator_betas=(.5, .9), discriminator_eps=1e-6,
                        lr_decay=.5, lr_end=0., discriminator_width=8, losses=LossWeights(1, 2, 0, 5, .5), sample_every=6, checkpoint_every=2)


def training(folder, name):
    "A toy training of a model to compare."
    variant, config = variant_recipe(name, RECIPE)
    return TrainingRun(folder, ProceduralScenes(13, 64, seed=1), ProceduralScenes(4, 64, seed=2), SCENE_LABELS, config, TOYS[variant], variant=variant)


class Rates(Callback):
    "Notes learning rates."
    order, run_valid = 90, False
    def __init__(self): self.rows = []
    def after_batch(self): self.rows.append(self.learn.opt.opt.param_groups[0]['lr'])


@pytest.mark.parametrize('name', ['sean', 'groupdnet', *(pytest.param(n, marks=pytest.mark.slow) for n in ('sean-cross', 'groupdnet-cross'))])
def test_trained_and_resumed_bit_by_bit(name, tmp_path):
    "A whole training, and one that crashed and went on: the same history, weights, running means and moments; KL by class in the history."
    rates = Rates()
    whole = train_and_resume(partial(training, name=name), tmp_path, 9, [rates])
    assert rates.rows[0] == RECIPE.lr and rates.rows[-1] < .2*RECIPE.lr and rates.rows == sorted(rates.rows, reverse=True)
    d = whole.networks.opts['discriminator'].param_groups[0]
    assert (d['eps'], d['betas'], whole.networks.opts['generator'].param_groups[0]['betas']) == (1e-6, (.5, .9), (0., .9))
    assert whole.networks.average.means.seen.max() > 20
    rows = read_history(tmp_path/'whole')
    if name.startswith('groupdnet'):
        for row in rows:
            parts = [row[f'kl_{k}'] for k in range(S+1)]
            assert min(parts) >= 0 and row['kl'] == pytest.approx(.05*sum(parts), rel=1e-4)
            assert row['regularization'] == pytest.approx(row['kl'])
    else: assert all('kl' not in row for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize('name', TOYS)
def test_onnx_with_free_sides(name, tmp_path):
    "The ONNX graph agrees with the model for any batch and any sides, to 1e-4; with the options that change the graph."
    torch.manual_seed(0)
    config = replace(TOYS[name], init_gain=1., noise=1, padding='replicate', upsampling='bilinear', mean_color=True)
    check_onnx(build_synthesizer(name, config), tmp_path)


def toy_synthesizer(name, size=32):
    "A `Synthesizer` without training that has class codes."
    torch.manual_seed(0)
    config = TOYS[name] if name in TOYS else find_variant(name).config(S, **dict.fromkeys(
        ('pyramid_widths', 'image_channels', 'label_channels', 'widths', 'spade_hidden'), (8,)*5), mlp_width=8)
    model = build_synthesizer(name, replace(config, init_gain=1.)).eval()
    if name == 'groupdnet': torch.nn.init.normal_(model.encoder.mean.weight, std=.5)   # before training its codes are next to nothing
    return Synthesizer(model, SCENE_LABELS, size, name=name, precision='float32')


CODED = *TOYS, 'no-attention', 'no-attention-literal'


def with_statistics(model):
    "A model in eval mode whose norms have seen something, whose noise counts, and whose blends are no halves."
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d): m.running_mean.normal_(), m.running_var.uniform_(.5, 2)
        if isinstance(m, SEANLayer):
            m.noise.data.normal_(std=.3)
            if m.style is not None: m.blend.data.normal_(std=2)
    return model.eval()


@pytest.mark.parametrize('changes', [{}, dict(noise=1, padding='replicate', upsampling='bilinear', mean_color=True, spade_kernel=3)])
@pytest.mark.parametrize('name', TOYS)
def test_folded_paints_the_same(name, changes):
    "In the form for painting norms, blends and spectral norm are gone, and the picture is equal; the model itself is as it was, and changes are seen."
    torch.manual_seed(0)
    model = with_statistics(build_synthesizer(name, replace(TOYS[name], init_gain=1., **changes)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    folded, photo = fold(model), torch.rand(2, 3, 48, 32)*2-1
    kinds = {type(m) for m in folded.blocks.modules()}
    assert not kinds & {torch.nn.BatchNorm2d, GlobalBatchNorm2d, SEANLayer, CGNorm} and not any('parametrizations' in n for n, _ in folded.blocks.named_modules())
    for h, w in ((32, 48), (64, 32)):
        layout, labels = (one_hot(torch.randint(0, S, (2, *size)), S) for size in ((h, w), (48, 32)))
        with torch.no_grad(): plain, painted = model(layout, photo, labels), folded(layout, photo, labels)
        assert (plain-painted).abs().max() < 1e-4 < plain.std()
    for k, v in model.state_dict().items(): assert torch.equal(v, before[k]), k
    s = Synthesizer(model, SCENE_LABELS, 32, precision='float32')
    painter = s.painter
    assert painter is s.painter and painter is not model
    with torch.no_grad(): model.blocks[0].conv_1.bias.add_(.5)
    assert s.painter is not painter
    with torch.no_grad(): assert (s.painter(layout, photo, labels)-model(layout, photo, labels)).abs().max() < 1e-4


@pytest.mark.parametrize('name', TOYS)
def test_odd_inputs(name):
    "Everything unlabelled, batches of one, exemplar and target of different sizes, unlabelled pixels without a code; eval twice gives equal bits."
    torch.manual_seed(0)
    for changes in ({}, dict(unlabelled=False) if name == 'sean' else dict(unlabelled=False, class_axis=18)):
        model = build_synthesizer(name, replace(TOYS[name], **changes)).eval()
        nothing, photo = one_hot(torch.full((1, 32, 48), 255), S), torch.rand(1, 3, 48, 32)*2-1
        labels = one_hot(torch.zeros(1, 48, 32).long(), S)
        with torch.no_grad():
            for c1, c2 in ((nothing, labels), (nothing, one_hot(torch.full((1, 48, 32), 255), S)), (one_hot(torch.ones(1, 32, 48).long(), S), labels)):
                picture = model(c1, photo, c2)
                assert picture.shape == (1, 3, 32, 48) and picture.isfinite().all() and torch.equal(picture, model(c1, photo, c2))
            codes, present = model.class_codes(photo, labels)
        assert present.shape[1] == codes.shape[1] == model.n_classes == S+1-(not model.config.unlabelled)
        assert present[0].tolist() == [True]+[False]*(model.n_classes-1)


def test_whose_code_a_pixel_changes():
    "Pixels of one class: in GroupDNet no other class's code changes, through crop and all; in SEAN all do."
    torch.manual_seed(0)
    photo, ids = torch.rand(1, 3, 64, 64)*2-1, torch.arange(64).view(64, 1).expand(64, 64)[None]//16
    labels = one_hot(ids, S)
    repainted = torch.where(ids[:, None] == 2, -photo.roll(3, 3), photo)
    for name, changed in (('groupdnet', [2]), ('sean', [0, 1, 2, 3])):
        for options in ({}, dict(mean_color=True), dict(crop=False) if name == 'groupdnet' else {}):
            model = build_synthesizer(name, replace(TOYS[name], **options)).eval()
            with torch.no_grad(): before, after = (model.class_codes(x, labels).codes[0].flatten(1) for x in (photo, repainted))
            assert (before != after).any(1).nonzero().flatten().tolist() == changed


def test_a_moved_object_has_the_same_code():
    "In GroupDNet, where the exemplar is padded: a class cropped to its box does not know where it was."
    torch.manual_seed(0)
    model, square = build_synthesizer('groupdnet', GROUPDNET).eval(), torch.rand(3, 10, 14)
    codes = []
    for top, left in ((2, 3), (30, 17)):
        photo, ids = torch.zeros(1, 3, 48, 48), torch.zeros(1, 48, 48).long()
        photo[0, :, top:top+10, left:left+14], ids[0, top:top+10, left:left+14] = square, 7
        with torch.no_grad(): codes.append(model.class_codes(photo, one_hot(ids, S)).codes[0, 7])
    assert torch.equal(*codes)


def test_groups_as_many_as_classes_keep_them_apart():
    "In GroupDNet: with as many groups as classes everywhere a class's code changes that class's channels alone, of every block and of the pictures."
    torch.manual_seed(0)
    model, k = build_synthesizer('groupdnet', replace(GROUPDNET, init_gain=1.).ablated('mulnet')).eval(), 5
    layout, codes, seen = one_hot(torch.randint(0, S, (1, 32, 48)), S), model.random_codes(1, torch.Generator().manual_seed(0)), []
    for module in (model.start, *model.blocks, model.end): module.register_forward_hook(lambda m, i, out: seen.append(out))
    other = codes.clone()
    other[:, k] += 1
    with torch.no_grad(): model.paint_codes(layout, codes), model.paint_codes(layout, other)
    for a, b in zip(seen[:7], seen[7:], strict=True):
        changed = (a != b).unflatten(1, (S+1, -1)).flatten(2).any(2)[0]
        assert changed.nonzero().flatten().tolist() == [k]


@pytest.mark.parametrize('name', CODED)
def test_classes_that_the_exemplar_lacks(name):
    "SEAN: the running mean, GroupDNet: the prior's mean, and the last bias while it learns, msca's variants: no features; whose they are is reported."
    s, photo, street = toy_synthesizer(name), procedural_scene(29, 48), render(procedural_layout(3, 'street'), procedural_style(0), 48)
    inputs = s.read_exemplar(photo).tensors('cpu')
    if name in TOYS: s.model.means.mean.normal_()
    with torch.no_grad():
        codes, present = s.model.class_codes(*inputs)
        shown = set(np.unique(photo.labels)) - {255}
        assert {int(i) for i in present[0].nonzero()} == shown and 2 < len(shown) < S
        absent = ~present[0]
        if name == 'sean': assert torch.equal(codes[0, absent], s.model.means.mean[absent])
        elif name == 'groupdnet':
            assert not codes[0, absent].any()
            s.model.train().encoder.mean.bias.normal_(), s.model.encoder.log_variance.bias.fill_(-60)   # no spread, so that the draw is the mean
            codes = s.model.class_codes(*inputs).codes[0, absent]
            assert torch.allclose(codes, s.model.encoder.mean.bias.view(S+1, -1, 1, 1)[absent].expand_as(codes))
            s.model.eval()
        else:
            n = s.model.config.image_channels[0]
            assert not codes[0, absent, :n].any() and codes[0, present[0], :n].any()
    told = unseen_classes(street.labels, present[0], SCENE_LABELS)
    assert set(told) == {SCENE_LABELS.classes[i] for i in set(np.unique(street.labels)) - shown - {255}} and told


def test_kl_does_not_depend_on_the_batch():
    "In GroupDNet: the same photos twice give the same term, a photo without a class adds nothing for it, and the classes' parts add up."
    torch.manual_seed(0)
    model = build_synthesizer('groupdnet', replace(GROUPDNET, init_gain=1.)).train()
    torch.nn.init.normal_(model.encoder.mean.weight, std=.5)
    photos, labels = torch.rand(3, 3, 32, 32)*2-1, one_hot(torch.arange(3).view(3, 1, 1)*4 + torch.arange(4).view(1, 1, 4).repeat_interleave(8, 2).expand(3, 32, 32), S)

    def told(*which):
        with torch.no_grad(): model.class_codes(photos[list(which)], labels[list(which)])
        return float(model.regularization()['kl']), model.measurements()

    model.eval()   # whatever is drawn, and without spectral norm's steps, the term is the same
    (all_three, parts), (twice, _) = told(0, 1, 2), told(0, 1, 2, 0, 1, 2)
    alone = [told(i) for i in range(3)]
    assert all_three > .01 and twice == pytest.approx(all_three, rel=1e-5) and sum(v for v, _ in alone)/3 == pytest.approx(all_three, rel=1e-5)
    assert model.config.kl_weight*sum(parts.values()) == pytest.approx(all_three, rel=1e-5)
    for i, (_, own) in enumerate(alone): assert {k for k, v in own.items() if v} == {f'kl_{n}' for n in range(4*i, 4*i+4)}


def test_weights_as_published():
    "Millions of weights of the authors' networks, to the printed digit; compact sizes within five percent of the full model's."
    def millions(name, config):
        with torch.device('meta'): return sum(p.numel() for p in build_synthesizer(name, config).parameters())/1e6
    assert round(millions('sean', SEANConfig.paper(19)), 1) == 266.9
    assert round(millions('groupdnet', GroupDNetConfig.paper(8)), 2) == 109.16
    full = millions('msca', SynthesizerConfig.compact(S))
    for name in TOYS: assert .95 < millions(name, find_variant(name).config.compact(S))/full < 1.05


@pytest.mark.parametrize('name', TOYS)
@pytest.mark.parametrize('wrong', [dict(widths=(8, 8)), dict(scales=(1, 2, 3, 4, 5)), dict(scales=(0, 2, 3, 4, 5)), dict(missing='never'), dict(code_channels=0)])
def test_wrong_configurations(name, wrong):
    with pytest.raises(ValueError, match=r'it must'): replace(TOYS[name], **wrong)


def test_groups_fall_by_whole_factors():
    "For every number of classes the compact configuration's groups are nested: each block's classes stay together in the next."
    for n in range(1, 255):
        config = GroupDNetConfig.compact(n)
        assert all(coarse % fine == 0 for fine, coarse in pairwise(config.groups)) and config.axis >= n+1
        assert GroupDNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def differs(a, b): return int(np.abs(np.asarray(a, int)-np.asarray(b, int)).max())


@pytest.mark.parametrize('name', CODED)
def test_interpolation_by_codes(name):
    "Ends are plain synthesis, one class moves by name, the model's own styles and the photos themselves do alike, and mistakes are one line."
    s, (layout, one, two) = toy_synthesizer(name), (procedural_scene(i, 48) for i in (29, 29, 37))
    assert {'sky', 'water'} <= {SCENE_LABELS.classes[i] for i in set(np.unique(one.labels)) & set(np.unique(two.labels))}
    first, half, last = s.interpolate(layout, one, two, factors=(0, .5, 1))
    assert differs(first, s(layout, one)) <= 1 and differs(last, s(layout, two)) <= 1 and differs(first, last) > 8 and differs(half, first) and differs(half, last)
    codes = [s.model.class_codes(*s.read_exemplar(x).tensors('cpu')) for x in (one, two)]
    encoded = [s.encode(x) for x in (one, two)]
    for known, style in zip(codes, encoded):
        told = s.model.codes_of(style.scales)
        assert torch.allclose(told.codes, known.codes, rtol=1e-4, atol=1e-4) and torch.equal(told.present, known.present)
    ends = s.interpolate(layout, *encoded, factors=(0, 1), only=['sky'])
    z, k = codes[0].codes.clone(), SCENE_LABELS.index('sky')
    z[:, k] = codes[1].codes[:, k]
    assert differs(ends[0], first) <= 1 and differs(ends[1], paint_mixed(s, layout, z)) <= 1 and differs(ends[1], first)
    by_class = class_masks(s.read_layout(layout).unpadded, SCENE_LABELS, {'sky': 1}, 2)
    assert differs(s.interpolate_space(layout, [one, two], by_class), ends[1]) <= 1
    lacking = next(n for i, n in enumerate(SCENE_LABELS.classes) if i not in two.labels)
    for bad, says in ((lambda: s.interpolate(layout, one, two, only=[lacking]), f'shows no {lacking}'), (lambda: s.interpolate(layout, one, two, size=1008), 'too many'),
                      (lambda: s.interpolate_space(layout, [one, two], linear_masks((48, 48), 2)), 'tell classes apart')):
        with pytest.raises(InputError, match=says) as e: bad()
        assert '\n' not in str(e.value)


@pytest.mark.parametrize('name', CODED)
def test_another_draw_changes_one_code(name):
    "From the model's distribution where it has one, otherwise from photos that show the class; without either a line says so."
    s = toy_synthesizer(name)
    photos = [read_codes(s, procedural_scene(i, 48)) for i in (29, 37, 30)]
    z, k = photos[0].codes.codes, SCENE_LABELS.index('sky')
    assert has_distribution(s.model) == (name == 'groupdnet')
    if name != 'groupdnet':
        with pytest.raises(InputError, match='has no distribution of codes'): redraw(s, z, ['sky'])
    draws = [redraw(s, z, ['sky'], seed, [] if name == 'groupdnet' else photos) for seed in range(8)]
    for other in draws: assert {int(i) for i in (other != z).flatten(2).any(2)[0].nonzero()} <= {k}
    assert len({tuple(d[0, k].flatten().tolist()) for d in draws}) == (8 if name == 'groupdnet' else 3)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "Both variants, trained by the command for a few iterations; a folder of scenes with label maps."
    folder, small = tmp_path_factory.mktemp('commands'), '--size 32 --batch-size 4 --parser-epochs 0 --warmup-epochs 1 --epochs 1,0 --discriminator-width 8 --device cpu'
    assert main(['scenes', '--n', '20', '--size', '64', '--out', str(folder/'data')]) == 0
    for name in TOYS: assert main(['train', '--procedural', '16', '--variant', name, *small.split(), '--out', str(folder/name)]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('name', TOYS)
def test_every_command(trained, name, capsys):
    "Paint, mix, measure, compare, export; explaining is refused in one line."
    data, model, out = trained/'data', str(trained/name), trained/f'{name}-out'
    layout, other = sorted((data/'labels').glob('*.png'))[:2]
    photo, another = (next((data/'images').glob(f'{x.stem}.*')) for x in (layout, other))
    maps = ['--exemplar-layout', f'{photo}={layout}', '--exemplar-layout', f'{another}={other}']
    assert main(['synth', '--layout', str(layout), '--exemplar', str(another), '--exemplar-layout', str(other), '--model', model, '--out', str(out/'synth.png')]) == 0
    assert main(['mix', '--layout', str(layout), '--style', f'*={photo}', '--morph', f'sky={another}', *maps, '--model', model, '--out', str(out/'mix.png')]) == 0
    strip = ['interpolate', '--layout', str(layout), '--exemplars', str(photo), str(another), '--exemplar-layouts', str(layout), str(other), '--model', model]
    for way in ([], ['--only', 'sky'], ['--assign', 'sky=2']): assert main([*strip, *way, '--out', str(out/f'{len(way)}{"".join(way[:1])}.png')]) == 0
    assert main([*strip, '--mask', 'left-right', '--out', str(out/'masked.png')]) == 2
    assert main(['eval', '--data', str(data), '--model', model, '--tasks', 'mirroring', '--out', str(out/'report.json')]) == 0
    both = [str(trained/n) for n in TOYS]
    assert main(['compare', '--data', str(data), '--models', *both, '--tasks', 'mirroring', '--out', str(out/'compared')]) == 0
    assert main(['export', '--model', model, '--out', str(out/'exported'), '--format', 'torch']) == 0
    capsys.readouterr()
    assert main(['explain', '--layout', str(layout), '--exemplar', str(photo), '--exemplar-layout', str(layout), '--model', model, '--out', str(out/'told')]) == 2
    said = capsys.readouterr().err
    assert f"a {name!r} model has no attention" in said and said.strip().count('\n') <= 1


def test_mean_color_and_class_layers_are_options_of_training(tmp_path, capsys):
    "It shapes the network, stays when a run goes on and in the checkpoint, and is refused in one line where nothing could carry it."
    small = '--procedural 12 --size 32 --batch-size 4 --parser-epochs 0 --warmup-epochs 1 --epochs 0,0 --discriminator-width 8 --device cpu'.split()
    run, line = str(tmp_path/'run'), ['train', '--variant', 'sean', '--mean-color', '--class-layers', 'shared', *small]
    assert main([*line, '--out', run]) == 0
    assert json.loads((tmp_path/'run'/'config.json').read_text())['synthesizer']['mean_color'] is True
    model = load_synthesizer(run)[0]
    assert {m.weight.shape[0] for m in model.modules() if isinstance(m, ClassLinear)} == {1}
    labels, photo = one_hot(torch.zeros(1, 32, 32).long(), S), torch.rand(1, 3, 32, 32)-.8
    with torch.no_grad(): dark, bright = (model.class_codes(x, labels).codes[0, 0] for x in (photo, photo+.6))
    assert torch.allclose(bright[-3:]-dark[-3:], torch.full((3,), .6), atol=1e-5) and (bright-dark)[:-3].abs().max() < 1e-2
    capsys.readouterr()
    assert main(['train', '--resume', '--no-mean-color', '--out', run]) == 2
    assert 'was started with --mean-color true, not false' in capsys.readouterr().err
    assert main(['train', '--resume', '--out', run]) == 0   # it is over; the same network is found
    for variant in ('msca', 'spade', 'spade-vae', 'no-attention'):
        capsys.readouterr()
        assert main(['train', '--variant', variant, '--mean-color', *small, '--out', str(tmp_path/'other')]) == 2
        said = capsys.readouterr().err.strip()
        assert '--mean-color' in said and 'groupdnet-cross' in said and '\n' not in said and not (tmp_path/'other').exists()
    for variant in ('msca', 'groupdnet'):
        assert main(['train', '--variant', variant, '--class-layers', 'own', *small, '--out', str(tmp_path/'other')]) == 2
        assert '--class-layers' in capsys.readouterr().err and not (tmp_path/'other').exists()


@pytest.mark.slow
def test_reproduced(tmp_path, monkeypatch):
    "A series trains both recipes of a variant for equally many updates, and measures them."
    monkeypatch.setattr('msca.learning.history.RunLog.draw', lambda *_: None)
    out = tmp_path/'series'
    assert main(['reproduce', 'table1', '--procedural', '20', '--size', '32', '--batch-size', '4', '--questions', '3', '--tasks', 'mirroring', '--parser', 'procedural-128',
                 '--device', 'cpu', '--features', 'squeezenet', '--updates', '12', '--models', 'sean', 'groupdnet-cross', '--out', str(out)]) == 0
    took = {n: json.loads((out/'models'/n/'trained.json').read_text())['updates'] for n in ('sean', 'groupdnet-cross')}
    variants = {n: json.loads((out/'models'/n/'config.json').read_text())['variant'] for n in took}
    assert took == {'sean': 12, 'groupdnet-cross': 12} and variants == {'sean': 'sean', 'groupdnet-cross': 'groupdnet'}
