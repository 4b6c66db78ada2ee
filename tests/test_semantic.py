"Training against the semantic discriminator: what gets gradients, what a state holds, resumed bit by bit; the recipe `scenes`; starting from another model."
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from safetensors.torch import save_file

from msca.base.labels import SCENE_LABELS, InputError, one_hot
from msca.commands.training import _check_train, _train_options, chosen_model, inherited_segmenter, recall_options, run_options, training_recipe
from msca.data.cache import weights_digest
from msca.data.datasets import ProceduralScenes
from msca.evidence.perceptual import lpips_network
from msca.learning.backbones import LITE0, efficientnet_lite0, load_backbone
from msca.learning.callbacks import EMA, GeneratorLoss, SemanticOpponent, sample_weights
from msca.learning.discriminators import PixelDiscriminator
from msca.learning.history import read_history
from msca.learning.losses import PerceptualLoss
from msca.learning.recipe import LossWeights, TrainingConfig, phases, schedule_lines
from msca.learning.run import TrainingRun
from msca.learning.samples import CROSS, SELF
from msca.learning.semantic_discriminator import SemanticConfig, SemanticDiscriminator
from msca.model.segmenter import load_segmenter
from msca.model.synthesizer import SynthesizerConfig, build_synthesizer
from msca.pretrained.models import PRETRAINED, parser_folder

torch.set_num_threads(1)
S, EIGHT = len(SCENE_LABELS), (8,)*5
TOY = SynthesizerConfig(S, pyramid_widths=EIGHT, image_channels=EIGHT, label_channels=EIGHT, slots=(4,)*5, mlp_width=8, widths=EIGHT, spade_hidden=EIGHT)
RECIPE = TrainingConfig(size=64, half_crops=True, pretrain_epochs=0, warmup_epochs=1, epochs=(1, 1), batch_size=4, lr=1e-3, discriminator_lr=2e-3,
                        discriminator_betas=(.5, .99), discriminator='semantic', adversarial_ramp=5, lr_decay=.5, sample_every=6, checkpoint_every=2,
                        losses=LossWeights(.7, 0, 0, 5, .5, pixel=.2))


@pytest.fixture(scope='module')
def random_weights(tmp_path_factory):
    "Files with random weights of the backbone."
    folder = tmp_path_factory.mktemp('backbones')
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_file(efficientnet_lite0().state_dict(), folder/f'{seed}.safetensors')
    return [folder/f'{seed}.safetensors' for seed in (0, 1)]


def training(folder, weights, **changes):
    "A toy training of 12 iterations: 3 of warm-up, 3 in stage 1, 6 in stage 2; patches of 32 from photos of 64."
    config = replace(RECIPE, backbone_weights=str(weights), **changes)
    return TrainingRun(folder, ProceduralScenes(13, 64, seed=1), ProceduralScenes(4, 64, seed=2), SCENE_LABELS, config, TOY)


class Watch(Callback):
    "Notes strength and learning rates."
    order, run_valid = 90, False
    def __init__(self): self.rows = []
    def after_batch(self):
        d = getattr(self.learn, 'discriminator_step', None)
        self.rows.append((self.loss_func.strength, self.learn.opt.opt.param_groups[0]['lr'], d and d.d_opt.param_groups[0]['lr']))


@pytest.fixture(scope='module')
def whole(tmp_path_factory, random_weights):
    "The toy training, uninterrupted, and what was noted."
    run, watch = training(tmp_path_factory.mktemp('whole'), random_weights[0]), Watch()
    before = [p.clone() for p in run.networks.discriminator.backbone.parameters()]
    run.run([watch], progress=False)
    run.watched, run.backbone_before = watch.rows, before
    return run


def test_backbone_is_frozen_and_in_no_state(whole):
    "After a training the backbone is as it was; its weights are in no optimizer and no state; the discriminators have moved."
    d = whole.networks.discriminator
    for p, before in zip(d.backbone.parameters(), whole.backbone_before, strict=True): assert p.grad is None and torch.equal(p, before)
    own = {id(p) for p in d.backbone.parameters()}
    assert not own & {id(p) for opt in whole.networks.opts.values() for g in opt.param_groups for p in g['params']}
    state = torch.load(whole.folder/'training.pt', weights_only=True)
    assert {k.split('.')[0] for k in state['networks']['discriminator']} == {'semantic', 'pixels', 'calibrated'}
    assert len(json.loads(state['config'])['backbone_fingerprint']) == 16
    fresh = training(whole.folder.parent/'fresh', whole.config.backbone_weights).networks.discriminator
    assert not torch.equal(fresh.semantic.head.weight, d.semantic.head.weight)
    assert bool(d.calibrated) and not bool(fresh.calibrated) and not torch.equal(d.semantic.deviation, fresh.semantic.deviation)


def test_accuracy_is_in_the_history(whole):
    rows = read_history(whole.folder)
    assert all(('d_accuracy_painted' in r) == (r['phase'] != 'warmup') for r in rows)
    told = [r for r in rows if r['phase'] != 'warmup']
    assert all(0 <= r[k] <= 1 for r in told for k in ('d_accuracy_photos', 'd_accuracy_painted'))
    assert all(r['adversarial'] > 0 and 'pixel' in r and 'feature_matching' not in r for r in told)


def test_ramp_and_decay(whole):
    "The adversarial terms gain their weight in five iterations from the first with a discriminator; both rates fall in the second half."
    strength, g, d = zip(*whole.watched)
    assert strength[3:] == tuple(min(1, i/5) for i in range(9))
    factor = [1-.95*max(0, i-6)/6 for i in range(12)]
    assert g == pytest.approx([1e-3*f for f in factor]) and d[3:] == pytest.approx([2e-3*f for f in factor[3:]])
    groups = {k: opt.param_groups[0] for k, opt in whole.networks.opts.items()}
    assert (groups['generator']['betas'], groups['discriminator']['betas']) == ((.9, .999), (.5, .99))


def test_resumed_bit_by_bit(whole, random_weights, tmp_path):
    "Stopped by an exception after the last state; networks, optimizers and history end as in the uninterrupted training."
    class Crash(Callback):
        order, run_valid = 99, False
        def after_batch(self):
            if self.learn.save_state.training_run.iteration == 7: raise ZeroDivisionError('a crash')

    with pytest.raises(ZeroDivisionError): training(tmp_path, random_weights[0]).run([Crash()], progress=False)
    elsewhere = tmp_path/'elsewhere.safetensors'
    elsewhere.write_bytes(random_weights[0].read_bytes())
    with pytest.raises(InputError, match='backbone_fingerprint'): training(tmp_path, random_weights[1]).resume()
    resumed = training(tmp_path, elsewhere).resume()  # a file of another name with the same weights
    assert resumed.iteration == 6
    resumed.run(progress=False)
    assert (tmp_path/'history.csv').read_text() == (whole.folder/'history.csv').read_text()
    for name, net in whole.networks.named().items():
        for k, v in net.state_dict().items(): assert torch.equal(v, resumed.networks.named()[name].state_dict()[k]), (name, k)
    for name, opt in whole.networks.opts.items():
        theirs = resumed.networks.opts[name].state_dict()['state']
        for k, state in opt.state_dict()['state'].items(): assert all(torch.equal(v, theirs[k][what]) for what, v in state.items()), name


def test_terms_by_hand():
    "Adversarial and pixel terms and the discriminators' loss, pixel by pixel; the picture gets all of the gradient."
    torch.manual_seed(0)
    opponent = SemanticOpponent(load_backbone(LITE0, None), 3).eval().requires_grad_(False)
    photos, ids = torch.rand(3, 3, 64, 64)*2-1, torch.randint(4, (3, 64, 64))  # 3: unlabelled
    ids[0] = 0
    onehot, task = one_hot(torch.where(ids == 3, 255, ids).byte(), 3), torch.tensor([CROSS, CROSS, SELF])
    opponent.calibrate(photos)
    pred, w = torch.zeros_like(photos).requires_grad_(True), sample_weights(task, .5)
    terms = opponent.generator_terms(pred, onehot, w)
    scores, pixels = opponent(pred, onehot)
    logs, small = scores.log_softmax(1), onehot[:, :, 1::2, 1::2].argmax(1)
    counts = [int((small == k).sum()) for k in range(3)]
    total = small.numel()
    weight = [min(20., total/(n*sum(c > 0 for c in counts))) if n else 0. for n in counts] + [0.]
    by_hand = sum(float(w[b])*sum(-float(logs[b, k][small[b] == k].sum())*weight[k] for k in range(3)) for b in range(3))/small[0].numel()
    assert float(terms['adversarial']) == pytest.approx(by_hand, rel=1e-4)
    assert float(terms['pixel']) == pytest.approx(-float((pixels[0][0].mean((1, 2, 3))*w).sum()), rel=1e-4)
    loss, told = opponent.loss(photos, pred.detach(), onehot, w)
    true, true_pixels = opponent(photos, onehot)
    right = float(sum(w[b]*sum(-true[b].log_softmax(0)[k][small[b] == k].sum()*weight[k] for k in range(3)) for b in range(3))/small[0].numel())
    painted = -float((logs[:, 3].mean((1, 2))*w).sum())
    hinge = float((((1-true_pixels[0][0]).relu()+(1+pixels[0][0]).relu()).mean((1, 2, 3))*w).sum())
    assert float(loss) == pytest.approx(right+painted+hinge, rel=1e-4)
    assert told['d_accuracy_painted'] == pytest.approx(float((scores.argmax(1) == 3).float().mean()))
    full = GeneratorLoss(LossWeights(.7, 0, 0, 0, .5, pixel=.2), opponent)
    full.strength = .5
    value = full(pred, photos, task, onehot, photos, onehot)
    assert float(value) == pytest.approx(.35*float(terms['adversarial'])+.1*float(terms['pixel']), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, pred)
    assert (gradient.abs().sum((1, 2, 3)) > 0).all()


def test_without_pixel_discriminator(random_weights):
    from msca.learning.networks import build_discriminator
    d = build_discriminator(replace(RECIPE, backbone_weights=str(random_weights[0]), losses=LossWeights(.7, 0)), S)
    assert d.pixels is None and set(d.generator_terms(torch.zeros(2, 3, 32, 32), torch.zeros(2, S+1, 32, 32), torch.ones(2)/2)) == {'adversarial'}


def test_recipe_scenes():
    "The recipe, and the shape of the model that is shipped."
    args = _train_options(['--out', 'run', '--config', 'scenes'])
    config = training_recipe(args)
    assert config == TrainingConfig.scenes() and (config.size, config.patch, config.batch_size) == (256, 128, 8)
    assert '8 samples at 128×128' in schedule_lines(config, 100)[0]
    variant, shape, _ = chosen_model(args, config, S)
    shipped = json.loads((PRETRAINED/'scenes-256'/'config.json').read_text())
    assert variant == 'msca' and json.loads(json.dumps(shape.to_dict())) == shipped['synthesizer']
    for name in ('gap', 'no-attention', 'spade', 'spade-vae'):
        args.variant = name
        assert (chosen_model(args, config, S)[1].noise, chosen_model(args, config, S)[1].padding) == (1, 'replicate')
    for wrong in (dict(size=48), dict(size=80), dict(size=32)):
        with pytest.raises(ValueError, match='half_crops'): replace(config, **wrong)
    with pytest.raises(ValueError, match='perceptual_weights'): replace(config, perceptual='distilled-vgg19')
    assert [p.adversarial for p in phases(config)] == [False, False, True, True]


def checked(tmp_path, *argv):
    "The options of `msca train`, checked."
    args = _train_options(['--out', str(tmp_path/'run'), '--procedural', '16', *argv])
    _check_train(args)
    return args


def test_finetune_and_init(tmp_path):
    "Size, parser, classes and no pre-training come from the model; what is given stands; a resumed run keeps them."
    args = checked(tmp_path, '--finetune', 'scenes-128')
    recipe = training_recipe(args)
    assert (recipe.size, recipe.pretrain_epochs, args.labels, args.init) == (128, 0, 'scenes', str(PRETRAINED/'scenes-128'))
    assert inherited_segmenter(args, SCENE_LABELS.classes) is not None and inherited_segmenter(args, ('sky', 'sea')) is None
    (tmp_path/'run').mkdir()
    (tmp_path/'run'/'options.json').write_text(json.dumps(run_options(args).to_dict()))
    again = _train_options(['--out', str(tmp_path/'run'), '--resume'])
    _check_train(again)
    assert run_options(again) == run_options(args) and training_recipe(again) == recipe
    started = checked(tmp_path/'b', '--init', 'scenes-256')
    assert (training_recipe(started).size, training_recipe(started).pretrain_epochs, started.labels) == (256, 2, None)
    given = checked(tmp_path/'c', '--finetune', 'scenes-128', '--size', '64', '--parser-epochs', '1', '--pretrain-epochs', '3', '--labels', 'own')
    assert (training_recipe(given).size, training_recipe(given).pretrain_epochs, given.labels) == (64, 3, 'own')
    assert inherited_segmenter(given, SCENE_LABELS.classes) is None
    with pytest.raises(InputError, match='one of them'): checked(tmp_path/'d', '--finetune', 'scenes-128', '--init', 'scenes-128')


def test_parser_of_another_model(tmp_path):
    "`--parser` takes a finished parser, says why it cannot, and a resumed run remembers it."
    args = checked(tmp_path, '--parser', 'scenes-128', '--init', 'scenes-256')
    assert (args.parser, run_options(args).parser) == (str(PRETRAINED/'scenes-128'),)*2
    assert weights_digest(inherited_segmenter(args, SCENE_LABELS.classes)) == weights_digest(load_segmenter(PRETRAINED/'scenes-128')[0])
    with pytest.raises(InputError, match='scenes-128: its parser knows other classes than the data; --labels scenes'): inherited_segmenter(args, ('sky', 'sea'))
    bare = tmp_path/'bare'
    bare.mkdir()
    with pytest.raises(InputError, match='bare: has no parser'): inherited_segmenter(checked(tmp_path/'b', '--parser', str(bare)), SCENE_LABELS.classes)
    for more in (['--parser-epochs', '2'], ['--parser-weights', str(PRETRAINED/'scenes-128'/'parser.safetensors')]):
        with pytest.raises(InputError, match='as it is'): checked(tmp_path/'c', '--parser', 'scenes-128', *more)
    with pytest.raises(InputError, match='neither a shipped model'): checked(tmp_path/'d', '--parser', 'nobody')


def test_older_run_from_a_model_keeps_its_size(tmp_path):
    "A run of a version in which --init brought no size goes on at its recipe's."
    args = checked(tmp_path, '--init', 'scenes-256', '--parser-epochs', '8')
    older = {k: v for k, v in run_options(args).to_dict().items() if k != 'finetune'}
    (tmp_path/'run').mkdir()
    (tmp_path/'run'/'options.json').write_text(json.dumps(older))
    again = _train_options(['--out', str(tmp_path/'run'), '--resume'])
    recall_options(again)
    assert training_recipe(again).size == 128


def test_parser_of_the_best_model(tmp_path):
    "`best/` has the run's parser; another folder has none."
    for name in ('best', 'other'): (tmp_path/name).mkdir()
    assert parser_folder(tmp_path/'best') is None
    (tmp_path/'parser.json').write_text('{}')
    assert (parser_folder(tmp_path/'best'), parser_folder(tmp_path/'other'), parser_folder(tmp_path)) == (tmp_path, None, tmp_path)


def test_a_phase_starts_again_from_half_precision(tmp_path):
    "What the script of the shipped model keeps: painter, average and discriminators give the same to a thousandth, and the count goes on."
    sys.path.insert(0, str(Path(__file__).parents[1]/'benchmarks'))
    from train_scenes import Trainer

    def state(seed):
        torch.manual_seed(seed)
        painter = build_synthesizer('msca', TOY).eval()
        judges = torch.nn.ModuleList([SemanticDiscriminator(SemanticConfig(S, (4, 8, 8))), PixelDiscriminator(S)]).eval()
        average = SimpleNamespace(average=deepcopy(painter).requires_grad_(False), n=seed)
        with torch.no_grad(): next(average.average.parameters()).mul_(1.5)
        return SimpleNamespace(generator=painter, average=average, discriminators=judges, label_set=SCENE_LABELS, iteration=10*seed)

    kept, other = state(1), state(2)
    Trainer.keep_phase(kept, tmp_path)
    Trainer.start_phase(other, tmp_path)
    x, c = torch.rand(1, 3, 32, 32)*2-1, one_hot(torch.randint(0, S, (1, 32, 32)), S)
    maps = [torch.rand(1, n, 16 >> k, 16 >> k) for k, n in enumerate((4, 8, 8))]
    with torch.no_grad():
        for see in (lambda t: t.generator(c, x, c), lambda t: t.average.average(c, x, c), lambda t: t.discriminators[0](maps), lambda t: t.discriminators[1](x, c)[0][-1]):
            assert (see(other)-see(kept)).abs().max() < 1e-3
    assert (other.iteration, other.average.n) == (10, 1) and not torch.equal(kept.generator(c, x, c), kept.average.average(c, x, c))
    shutil.rmtree(tmp_path/'generator')  # only the average was kept
    Trainer.start_phase(other, tmp_path)
    with torch.no_grad(): assert torch.equal(other.generator(c, x, c), other.average.average(c, x, c))


def test_a_larger_painter_grows_out_of_a_small_one():
    "It paints the same to begin with, up to what moves where slots are added, and all that was added can learn."
    sys.path.insert(0, str(Path(__file__).parents[1]/'benchmarks'))
    from train_scenes import grow
    torch.manual_seed(0)
    config = replace(TOY, init_gain=1., widths=(8, 8, 12, 16, 16))
    small = build_synthesizer('msca', config)
    wider = replace(config, widths=(12, 12, 16, 24, 24), spade_hidden=(8, 8, 12, 12, 12))
    other, wide, slots = (build_synthesizer('msca', config) for config in (wider, wider, replace(wider, slots=(8,)*5)))
    x, c, other_layout = torch.rand(2, 3, 32, 32)*2-1, *(one_hot(torch.randint(0, S, (2, 32, 32)), S) for _ in range(2))
    painted = grow(small, deepcopy(small))(c, x, other_layout)
    apart = lambda model: ((model(c, x, other_layout)-painted).abs().mean()/painted.std()).item()
    assert apart(other) > .3
    assert apart(grow(small, wide)) < .01 and apart(grow(small, slots)) < .1
    before, optimizer = [w.detach().clone() for w in slots.parameters()], torch.optim.Adam(slots.parameters(), 1e-3)
    for _ in range(2):  # what is new is read by nothing in the first step
        optimizer.zero_grad()
        slots(c, x, other_layout).square().sum().backward()
        optimizer.step()
    for (name, weight), first, old in zip(slots.named_parameters(), before, small.parameters()):
        first[tuple(map(slice, old.shape))] = weight[tuple(map(slice, old.shape))]
        assert weight.shape == old.shape or (weight != first).sum() > .5*(weight.numel()-old.numel()), name


TOGETHER = """
import sys, torch
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from train_scenes import Together
together = Together(SimpleNamespace(processes=2, together_every=3))
net = torch.nn.BatchNorm1d(2)
optimizer = torch.optim.Adam(net.parameters(), .1)
trainer = SimpleNamespace(iteration=0, state=lambda: dict(net=net.state_dict(), optimizer=optimizer.state_dict(), iteration=trainer.iteration))
own, told = torch.Generator().manual_seed(together.rank), []
while not (told and told[-1]):
    optimizer.zero_grad()
    (net(torch.randn(5, 2, generator=own))*torch.randn(5, 2, generator=own)).sum().backward()
    optimizer.step()
    trainer.iteration += 1
    before = trainer.state()['optimizer']['state'][0]['exp_avg'].clone()
    told.append(together.mean_(trainer, together.rank == 1 and trainer.iteration > 4))  # one asks, both stop
torch.save((told, before, trainer.state()), f'{sys.argv[2]}/{together.rank}.pt')
for other in together.others: assert other.wait() == 0
"""


def test_processes_go_on_from_the_mean_of_all(tmp_path):
    "Weights, statistics and moments are the same in both after every third iteration, and the mean of what they were; both stop at the same one."
    (tmp_path/'script.py').write_text(TOGETHER)
    subprocess.run([sys.executable, tmp_path/'script.py', Path(__file__).parents[1]/'benchmarks', tmp_path], check=True, timeout=120)
    (told, moment, state), (other_told, other_moment, other) = (torch.load(tmp_path/f'{k}.pt') for k in range(2))
    assert told == other_told == [False]*5 + [True] and state['iteration'] == other['iteration'] == 6
    for a, b in ((state['net'], other['net']), (state['optimizer']['state'][0], other['optimizer']['state'][0])): assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(moment, other_moment) and torch.allclose(state['optimizer']['state'][0]['exp_avg'], (moment+other_moment)/2)
    assert state['net']['num_batches_tracked'] == 6


def test_pretraining_moves_attention_alone(tmp_path):
    "Features come nearer to the target's; what paints stays; stopped and started again it ends with the same weights, and the average starts there."
    sys.path.insert(0, str(Path(__file__).parents[1]/'benchmarks'))
    import train_scenes
    rng = np.random.default_rng(0)
    ids = np.repeat(np.repeat(rng.integers(0, S, (9, 9), np.uint8), 32, 0), 32, 1)
    store = [(rng.integers(0, 256, (S, 3), np.uint8)[ids], ids, ids)]

    def pretrained(name, stop_at=None):
        torch.manual_seed(0)
        painter = build_synthesizer('msca', TOY)
        folder, before = tmp_path/name, {k: v.clone() for k, v in painter.named_parameters()}
        folder.mkdir(exist_ok=True)
        a = SimpleNamespace(seed=0, crops=2, pretrain=20, pretrain_lr=1e-2, out=folder, minutes=9, state_minutes=9, piece=0)
        trainer = SimpleNamespace(generator=painter, store=store, average=SimpleNamespace(average=deepcopy(painter)), device='cpu', autocast=nullcontext, a=a, iteration=0,
                                  state=painter.state_dict)
        with pytest.MonkeyPatch.context() as changed:
            step = train_scenes.Pretraining.step
            def stopping(work):
                told = step(work)
                if work.iteration == stop_at: os.kill(os.getpid(), signal.SIGTERM)
                return told
            changed.setattr(train_scenes.Pretraining, 'step', stopping)
            done = train_scenes.pretrain(a, trainer, store)
        return done, trainer, {k.split('.')[0] for k, v in painter.named_parameters() if not torch.equal(v, before[k])}

    handler = signal.getsignal(signal.SIGTERM)
    try:
        done, trainer, moved = pretrained('through')
        assert not pretrained('stopped', 13)[0] and (tmp_path/'stopped'/'pretraining.pt').exists()
        again = pretrained('stopped')
    finally: signal.signal(signal.SIGTERM, handler)
    assert done and again[0] and moved == {'image_pyramid', 'label_pyramid', 'attention'} and not (tmp_path/'stopped'/'pretraining.pt').exists()
    whole = trainer.generator.state_dict()
    for model in (trainer.average.average, again[1].generator, again[1].average.average): assert all(torch.equal(v, whole[k]) for k, v in model.state_dict().items())
    rows = list(csv.DictReader((tmp_path/'through'/'pretrain.csv').open()))
    first, last = (sum(float(row[f'pretrain_{k}']) for k in range(5)) for row in rows)
    assert last < .9*first and rows[0]['held_out_color'] == '' and 5 < float(rows[1]['held_out_color']) < 40


def test_what_discriminators_see_moves_with_its_labels():
    "Picture and map are moved alike, by every distance up to the largest; all that is seen has its gradient."
    sys.path.insert(0, str(Path(__file__).parents[1]/'benchmarks'))
    from train_scenes import shifted
    torch.manual_seed(0)
    picture, moves = torch.arange(24*24.).view(1, 1, 24, 24).requires_grad_(True), set()
    for _ in range(200):
        moved, labels = shifted(2, picture, (picture > 200).float())
        assert moved.shape == picture.shape and torch.equal(labels, (moved > 200).float())
        moves.add(divmod(int(moved[0, 0, 12, 12]-picture[0, 0, 12, 12])+50, 24))
    assert moves == {(row, column) for row in range(5) for column in range(5)}
    moved.sum().backward()
    assert picture.grad.sum() == 24*24 and picture.grad[..., 2:-2, 2:-2].min() == 1


class Strided(torch.nn.Module):
    "A frozen network in small: three maps at 1/2, 1/4 and 1/8."
    channels = 4, 8, 8

    def __init__(self):
        super().__init__()
        self.convs = torch.nn.ModuleList(torch.nn.Conv2d(i, o, 3, 2, 1) for i, o in zip((3, 4, 8), self.channels))

    def forward(self, x):
        maps = []
        for conv in self.convs: maps.append(x := conv(x).relu())
        return maps


@pytest.mark.parametrize('more', [{}, dict(shift=16), dict(label_mix=1., pair=True, class_noise=.1, texture=1.)])
def test_an_iteration_of_the_shipped_model(more):
    "By every option painter, average and both discriminators learn, the frozen networks do not, and every loss is told."
    sys.path.insert(0, str(Path(__file__).parents[1]/'benchmarks'))
    from train_scenes import COLUMNS, KINDS, Trainer
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    ids = np.repeat(np.repeat(rng.integers(0, S, (9, 9), np.uint8), 32, 0), 32, 1)
    trainer = Trainer.__new__(Trainer)
    trainer.a = SimpleNamespace(**dict(seed=0, crops=2, kinds=KINDS, pair=False, class_noise=0., reconstruct=0, reconstruct_lr=1e-3, lr=1e-3, discriminator_lr=1e-3, decay=(9, 10),
                                       precision='float32', ramp=0, shift=0, label_mix=0., share_limit=1., adversarial=.7, pixel=.6, perceptual=5., color=35., chroma=12.,
                                       texture=0.) | more)
    trainer.store, trainer.iteration, trainer.device, trainer.seed, trainer.strength = [(rng.integers(0, 256, (S, 3), np.uint8)[ids], ids, ids)], 0, torch.device('cpu'), 0, 1.
    trainer.generator, trainer.backbone, trainer.perceptual = build_synthesizer('msca', TOY), Strided().requires_grad_(False), PerceptualLoss.distilled_vgg19(None)
    trainer.average = EMA(deepcopy(trainer.generator), .5)
    trainer.average.learn = SimpleNamespace(model=trainer.generator)
    trainer.semantic, trainer.pixels = SemanticDiscriminator(SemanticConfig(S, Strided.channels)), PixelDiscriminator(S+3*trainer.a.pair)
    trainer.discriminators = torch.nn.ModuleList([trainer.semantic, trainer.pixels])
    trainer.g_opt, trainer.d_opt = (torch.optim.Adam(m.parameters(), 1e-3) for m in (trainer.generator, trainer.discriminators))
    learn, frozen = (trainer.generator, trainer.average.average, trainer.semantic, trainer.pixels), (trainer.backbone, trainer.perceptual)
    before = [weights_digest(m) for m in (*learn, *frozen)]
    told = [trainer.step() for _ in KINDS]
    moved = [a != weights_digest(m) for a, m in zip(before, (*learn, *frozen))]
    assert moved == [True]*4 + [False]*2 and trainer.iteration == 4
    assert all(np.isfinite(list(t.values())).all() and set(COLUMNS) - set(t) == ({'texture'} if trainer.a.texture == 0 else set()) for t in told)


def test_label_mix_asks_nothing_of_a_judge_that_sees_every_pixel_alone():
    "A 1×1 convolution scores a mixed picture as the mixed scores; a wider one does not, and learns from the difference."
    sys.path.insert(0, str(Path(__file__).parents[1]/'benchmarks'))
    from train_scenes import Trainer
    torch.manual_seed(0)
    photo, painted, c = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16), one_hot(torch.randint(0, S, (2, 16, 16)), S)
    for judge, silent in ((torch.nn.Conv2d(3, 5, 1), True), (torch.nn.Conv2d(3, 5, 3, padding=1), False)):
        trainer = SimpleNamespace(semantic=judge, backbone=lambda x: x, autocast=nullcontext)
        loss = Trainer.label_mix(trainer, photo, painted, judge(photo), judge(painted), c)
        loss.backward()
        assert (loss < 1e-10) == silent and (judge.weight.grad.abs().max() > 1e-5) != silent


def test_the_best_average_is_the_nearest_to_held_out_photos(tmp_path):
    "Photos that are painted as they are have distance 0, dimmed ones more; best.json names the smallest so far."
    sys.path.insert(0, str(Path(__file__).parents[1]/'benchmarks'))
    from train_scenes import held_out_lpips, note_best
    rng = np.random.default_rng(0)
    store = [(rng.integers(0, 256, (256, 270, 3), np.uint8), rng.integers(0, S, (256, 270), np.uint8), np.zeros((256, 270), np.uint8)) for _ in range(3)]
    network, settings = lpips_network('alex', None), SimpleNamespace(out=tmp_path)

    def trainer(iteration, light): return SimpleNamespace(device='cpu', iteration=iteration, average=SimpleNamespace(average=lambda c1, x2, c2: light*x2.flip(-1)))

    distances = [held_out_lpips(trainer(0, light), store, network) for light in (.5, 1., .8)]
    assert distances[1] < 1e-6 < distances[2] < distances[0]
    for iteration, distance in zip((100, 200, 300), distances):
        note_best(settings, trainer(iteration, 1), distance)
        assert json.loads((tmp_path/'best.json').read_text())['model'] == f'averages/{min(iteration, 200):06d}'
