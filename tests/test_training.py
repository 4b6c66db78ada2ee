"Training from the outside: killed and resumed, stopped, out of disk, who moves when, whether a saved model paints what it learned."
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn.utils.parametrize import is_parametrized

warnings.filterwarnings('ignore', category=FutureWarning)

from fastai.callback.core import Callback, CancelFitException

from msca.base.labels import SCENE_LABELS
from msca.data.datasets import ProceduralScenes
from msca.learning.history import read_history
from msca.learning.recipe import LossWeights, TrainingConfig
from msca.learning.run import TrainingRun
from msca.learning.samples import stage_loaders
from msca.learning.states import kept_states
from msca.model.checkpoint import load_synthesizer
from msca.model.synthesizer import SynthesizerConfig

torch.set_num_threads(1)
EIGHT = (8,)*5
TOY = SynthesizerConfig(len(SCENE_LABELS), pyramid_widths=EIGHT, image_channels=EIGHT, label_channels=EIGHT, slots=(4,)*5, mlp_width=8,
                        widths=EIGHT, spade_hidden=EIGHT)
RECIPE = TrainingConfig(size=32, pretrain_epochs=1, warmup_epochs=1, epochs=(1, 1), batch_size=4, lr=1e-3, pretrain_lr=3e-3,
                        generator_every=2, discriminator_width=8,
                        losses=LossWeights(1, 2, 0, 5, .5), sample_every=6, checkpoint_every=2)
TRAIN = ('train --procedural 20 --size 32 --batch-size 4 --parser-epochs 0 --pretrain-epochs 1 --warmup-epochs 1 --epochs 1,1 '
         '--generator-every 2 --checkpoint-every 3 --sample-every 10 --seed 5 --device cpu --out').split()


def training(folder, **changes):
    "A toy training of 15 iterations: 3 of pre-training, 3 of warm-up, 3 in stage 1, 6 in stage 2."
    return TrainingRun(folder, ProceduralScenes(13, 64, seed=1), ProceduralScenes(4, 64, seed=2), SCENE_LABELS, replace(RECIPE, **changes),
                       TOY)


def parameters(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def msca_train(folder, *more, **kwargs):
    "`msca train` as a process of its own."
    code = 'import sys; from msca.commands.cli import main; sys.exit(main())'
    return subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code, *TRAIN, str(folder), *more], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE,
                            text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'}, **kwargs)


def finish(process):
    "Wait for a process; its output."
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def begun(folder):
    "Wait until a training logs."
    for _ in range(6000):
        if (folder/'history.csv').is_file(): return
        time.sleep(.02)
    raise AssertionError('the training did not begin')


def kill(process, folder, while_writing=False, seconds=0.):
    "SIGKILL, while a state is being written, or after so many seconds of training. False if the training had ended before."
    if while_writing:
        while process.poll() is None and not any(folder.glob('.training.pt.*.tmp')): time.sleep(.0005)
    else:
        stop = time.monotonic()+seconds
        while process.poll() is None and time.monotonic() < stop: time.sleep(.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The toy training, uninterrupted."
    run = training(tmp_path_factory.mktemp('whole'))
    run.run(progress=False)
    return run


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    "`msca train`, uninterrupted: the text of its history."
    folder = tmp_path_factory.mktemp('uninterrupted')/'run'
    code, _, err = finish(msca_train(folder))
    assert code == 0, err
    return (folder/'history.csv').read_text()


def test_killed_while_saving(uninterrupted, tmp_path):
    "kill -9 in the middle of writing a state; resuming gives the history of the uninterrupted training, to the last digit."
    folder = tmp_path/'run'
    assert kill(msca_train(folder), folder, while_writing=True)
    assert any(folder.glob('.training.pt.*.tmp')), 'it was not being written'
    code, _, err = finish(msca_train(folder, '--resume'))
    assert code == 0, err
    assert (folder/'history.csv').read_text() == uninterrupted
    assert len(uninterrupted.splitlines()) > 10
    assert [p.name for p in kept_states(folder)] == ['training.pt', 'training.1.pt']
    assert not any(folder.glob('.*.tmp')), 'what the killed process left behind is still there'


@torch.no_grad()
def stretches(net):
    "Largest singular values of the spectrally normalized weights of a network in eval mode."
    return [float(torch.linalg.matrix_norm(m.weight.flatten(1), 2)) for m in net.modules() if is_parametrized(m, 'weight')]


def test_saved_model_stretches_nothing(whole):
    "The average is saved with singular values of its own: with those copied from the model, its weights stretch by more than one."
    saved = stretches(load_synthesizer(whole.folder)[0])
    assert len(saved) > 5 and max(abs(v-1) for v in saved) < 2e-3, saved
    copied = whole.networks.ema
    copied.learn = SimpleNamespace(model=whole.networks.model)
    before = copied.n, {k: v.clone() for k, v in copied.average.state_dict().items()}
    try:
        copied.after_step()
        assert max(stretches(copied.average)) > 1.02
    finally:
        copied.n = before[0]
        copied.average.load_state_dict(before[1])
    best = stretches(load_synthesizer(whole.folder/'best')[0])
    assert max(abs(v-1) for v in best) < 2e-3, best


@pytest.mark.slow
def test_killed_twenty_times(uninterrupted, tmp_path):
    "Twenty kills at random moments, every fourth while a state is being written."
    folder, rng, kills = tmp_path/'run', random.Random(0), 0
    first = msca_train(folder)
    begun(folder)
    kills += kill(first, folder, seconds=.5)
    while kills < 20:
        process = msca_train(folder, '--resume')
        hit = kill(process, folder, while_writing=kills % 4 == 0, seconds=rng.uniform(0, 12))
        kills += hit
        if not hit:  # it had finished: take the newest states away, so that there is something to do again
            for path in kept_states(folder): path.unlink()
    code, _, err = finish(msca_train(folder, '--resume'))
    assert code == 0, err
    assert (folder/'history.csv').read_text() == uninterrupted


def test_same_seed_same_losses(uninterrupted, tmp_path):
    "Another process, the same seed: the same history; another seed: another one."
    code, _, err = finish(msca_train(tmp_path/'run', '--epochs', '0,0', '--warmup-epochs', '0'))
    assert code == 0, err
    rows = (tmp_path/'run'/'history.csv').read_text().splitlines()
    # the last iteration of a phase measures
    assert rows == uninterrupted.splitlines()[:len(rows)] or rows[:-1] == uninterrupted.splitlines()[:len(rows)-1]
    assert len(rows) > 3


@pytest.mark.parametrize('which', [signal.SIGINT, signal.SIGTERM])
def test_stopped_on_request(tmp_path, which):
    "Ctrl-C and SIGTERM: the iteration is finished, the state saved, the line says how to go on, and it does go on."
    folder = tmp_path/'run'
    process = msca_train(folder, '--epochs', '40,0', '--sample-every', '1')
    begun(folder)
    process.send_signal(which)
    code, _, err = finish(process)
    assert (code, err.strip().splitlines()[-1]) == (130, f'msca: stopped; go on with: msca train --out {folder} --resume')
    state = torch.load(kept_states(folder)[0], weights_only=True)
    assert state['iteration'] == len(read_history(folder)) > 0


DISK = """
import resource, sys, warnings
sys.path.insert(0, {here!r})
import test_training as t
run = t.training({folder!r})
class Fill(t.Callback):
    "From the eighth iteration on no file may grow beyond a kilobyte."
    order, run_valid = 1, False
    def before_batch(self):
        if run.iteration == 7: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
        if run.iteration == 12: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
warnings.simplefilter('always', UserWarning)
run.run([Fill()], progress=False)
"""


def test_full_disk(whole, tmp_path):
    "While the disk is full the training goes on and says so, older states stay; later nothing is missing from the history."
    code = DISK.format(here=str(Path(__file__).parent), folder=str(tmp_path/'run'))
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 'cannot be written' in done.stderr and 'training goes on' in done.stderr
    assert (tmp_path/'run'/'history.csv').read_text() == (whole.folder/'history.csv').read_text()
    assert not any((tmp_path/'run').glob('.*.tmp'))


def test_resumed_bit_by_bit(whole, tmp_path):
    "Stopped by an exception after the last state; networks and optimizers end as in the uninterrupted training."
    class Crash(Callback):
        order, run_valid = 99, False
        def after_batch(self):
            if self.learn.save_state.training_run.iteration == 9: raise ZeroDivisionError('a crash')

    with pytest.raises(ZeroDivisionError): training(tmp_path).run([Crash()], progress=False)
    with open(tmp_path/'history.csv', 'a') as f: f.write('stage2,10,0.1')  # a line cut short
    resumed = training(tmp_path).resume()
    assert resumed.iteration == 8
    resumed.run(progress=False)
    assert (tmp_path/'history.csv').read_text() == (whole.folder/'history.csv').read_text()
    for name, net in whole.networks.named().items():
        for k, v in net.state_dict().items(): assert torch.equal(v, resumed.networks.named()[name].state_dict()[k]), (name, k)
    for name, opt in whole.networks.opts.items():
        theirs = resumed.networks.opts[name].state_dict()['state']
        for k, state in opt.state_dict()['state'].items(): assert all(torch.equal(v, theirs[k][what]) for what, v in state.items()), name


class Moves(Callback):
    "Notes which networks moved in every training iteration."
    order, run_valid = 90, False

    def __init__(self, run): self.nets, self.rows = dict(G=run.networks.model.generator, D=run.networks.discriminator, A=run.networks.model.attention), []
    def before_batch(self): self.before = {k: parameters(n) for k, n in self.nets.items()}
    def after_batch(self): self.rows.append({k for k, n in self.nets.items() if not torch.equal(parameters(n), self.before[k])})


def test_who_moves_when(tmp_path):
    "Attention alone in pre-training; the generator in every warm-up iteration, then in every third; the discriminator in all."
    run = training(tmp_path, generator_every=3)
    moves = Moves(run)
    run.run([moves], progress=False)
    turn = lambda i: {'G', 'D', 'A'} if i % 3 == 0 else {'D'}
    assert moves.rows == [{'A'}]*3 + [{'G', 'A'}]*3 + [turn(i) for i in range(7, 16)]
    assert [r['iteration'] for r in read_history(tmp_path) if r['phase'].startswith('stage') and 'l1' in r] == [9, 12, 15]


def test_saved_model_paints_as_in_training(whole):
    "With recomputed statistics the saved model's eval-mode pictures are close to its train-mode ones; with the old ones not."
    model, _, _ = load_synthesizer(whole.folder)
    batches = list(stage_loaders(whole.train_store, whole.valid_store, len(SCENE_LABELS), 2, 8).train)
    c1, x2, c2 = (torch.cat(t) for t in zip(*(b[:3] for b in batches)))
    with torch.no_grad():
        saved = model(c1, x2, c2)
        for (_, mine), (_, swinging) in zip(model.named_buffers(), whole.networks.model.named_buffers()): mine.copy_(swinging)
        copied = model(c1, x2, c2)
        in_training = model.train()(c1, x2, c2)
    gap = float((saved-in_training).abs().mean())
    assert gap < .05
    assert gap < .5*float((copied-in_training).abs().mean())


@pytest.mark.slow
def test_learns_eight_scenes(tmp_path):
    "Eight scenes at 64×64: in five minutes of processor time unseen halves are painted at 20 dB, and 3 dB worse after another style."
    from msca.data.layouts import procedural_layout
    from msca.data.render import render
    from msca.data.scene import Scene
    from msca.data.styles import procedural_style

    class Scenes(list):
        def size_of(self, i): return 128, 128

    def rendered(i, j, name):
        return Scene((s := render(procedural_layout(i), procedural_style(j), 128)).image, s.labels, SCENE_LABELS, name)

    scenes = Scenes(rendered(i, i, f'scene {i}') for i in range(8))
    restyled = Scenes(rendered(i, (i+3) % 8, f'scene {i}') for i in range(8))  # the same layouts, each in the style of another of the eight
    recipe = TrainingConfig(size=64, pretrain_epochs=100, warmup_epochs=1000, epochs=(0, 0), batch_size=8, lr=1e-3, pretrain_lr=2e-3,
                            losses=LossWeights(0., 0., 0., 10., 1.), ema_decay=.98, sample_every=1000, checkpoint_every=1000)
    run = TrainingRun(tmp_path, scenes, restyled, SCENE_LABELS, recipe)
    start, reached = time.process_time(), {}

    def decibels(paint, exemplar):
        mse = ((paint - exemplar)**2).flatten(1).mean(1)/4  # of [0, 1]
        return float((-10*torch.log10(mse)).mean())

    class Measure(Callback):
        order, run_valid = 99, False
        def after_epoch(self):
            if self.epoch % 25 or run.position['phase'] == 0: return
            right, other = (next(iter(stage_loaders(s, s, len(SCENE_LABELS), 1, 8).valid)) for s in (run.train_store, run.valid_store))
            with torch.no_grad():  # the same crops of the same layouts: only the exemplar's style differs
                reached.update(seconds=time.process_time()-start, right=decibels(run.networks.average(*right[:3]), right[3]),
                               other=decibels(run.networks.average(right[0], other[1], other[2]), right[3]))
            print(reached)
            if reached['right'] > 20 and reached['right']-reached['other'] > 3 or reached['seconds'] > 300: raise CancelFitException

    run.run([Measure()], progress=False)
    assert reached['right'] > 20 and reached['right']-reached['other'] > 3 and reached['seconds'] <= 300, reached


DATA = os.environ.get('MSCA_DATA')
FOLDERS = 'siftflow', 'labelmefacade', 'stanford_background', 'msrc_v2', 'camvid', 'coco_stuff_samples'


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason='real photos are looked for in $MSCA_DATA')
@pytest.mark.parametrize('name', FOLDERS)
def test_every_real_folder(tmp_path, name, capsys):
    "`msca check`, and one epoch of everything at 32×32, on each folder of real photos."
    from msca.commands.cli import main
    from msca.data.datasets import SceneFolder
    from msca.data.published import CocoStuff, dataset_class
    assert dataset_class(f'{DATA}/{name}') is (CocoStuff if name == 'coco_stuff_samples' else SceneFolder)
    assert main(['check', '--data', f'{DATA}/{name}', '--out', str(tmp_path/'report')]) == 0
    assert (tmp_path/'report'/'samples.png').is_file()
    size = ['--batch-size', '8'] if name == 'coco_stuff_samples' else ['--batch-size', '32']
    argv = ['train', '--data', f'{DATA}/{name}', '--out', str(tmp_path/'run'), '--size', '32', *size, '--parser-epochs', '1',
            '--pretrain-epochs', '1',
            '--warmup-epochs', '0', '--epochs', '1,1', '--device', 'cpu']
    assert main(argv) == 0, capsys.readouterr().err
    rows = read_history(tmp_path/'run')
    assert {r['phase'] for r in rows} == {'pretrain', 'stage1', 'stage2'}
    assert (tmp_path/'run'/'model.safetensors').is_file() and (tmp_path/'run'/'history.png').is_file()
