"Training from the outside: killed and resumed, who moves when, and whether a saved model paints what it learned to paint."
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

warnings.filterwarnings('ignore', category=FutureWarning)

from fastai.callback.core import Callback

from msca.datasets import ProceduralScenes
from msca.labels import SCENE_LABELS
from msca.learner import TrainingConfig, TrainingRun
from msca.losses import LossWeights
from msca.selfsupervision import stage_loaders
from msca.synthesizer import SynthesizerConfig, load_synthesizer

torch.set_num_threads(1)
EIGHT = (8,)*5
TOY = SynthesizerConfig(len(SCENE_LABELS), pyramid_widths=EIGHT, image_channels=EIGHT, label_channels=EIGHT, slots=(4,)*5, mlp_width=8, widths=EIGHT, spade_hidden=EIGHT)
RECIPE = TrainingConfig(size=32, pretrain_epochs=1, warmup_epochs=1, epochs=(1, 1), batch_size=4, lr=1e-3, pretrain_lr=3e-3, generator_every=2, discriminator_width=8,
                        losses=LossWeights(1, 2, 0, 5, .5), sample_every=6, checkpoint_every=2)


def training(folder, **changes):
    "A toy training of 15 iterations: 3 of pre-training, 3 of warm-up, 3 in stage 1, 6 in stage 2."
    return TrainingRun(folder, ProceduralScenes(13, 64, seed=1), ProceduralScenes(4, 64, seed=2), SCENE_LABELS, replace(RECIPE, **changes), TOY)


def history(folder):
    return [json.loads(line) for line in (Path(folder)/'history.jsonl').read_text().splitlines()]


def parameters(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The toy training, uninterrupted."
    run = training(tmp_path_factory.mktemp('whole'))
    run.run(progress=False)
    return run


class Slow(Callback):
    "Gives the killer time: iterations from the eighth on take a while."
    run_valid = False

    def __init__(self, run): self.training_run = run
    def after_batch(self): time.sleep(.3 if self.training_run.iteration >= 7 else 0)


def train_slowly(folder):
    "What the process that will be killed does."
    run = training(folder)
    run.run([Slow(run)], progress=False)


def test_killed_and_resumed(whole, tmp_path):
    "kill -9 in the middle; resuming gives the history, the weights and the optimizers of the uninterrupted training, bit for bit."
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_training; test_training.train_slowly({str(tmp_path)!r})"
    child = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code], env=os.environ, stdout=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            if (tmp_path/'history.jsonl').is_file() and len(history(tmp_path)) >= 8: break
            assert child.poll() is None, "the training ended by itself"
            time.sleep(.05)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode == -signal.SIGKILL

    (tmp_path/'.training.pt.1.tmp').write_bytes(b'half a state')  # as a kill in the middle of saving leaves it
    with open(tmp_path/'history.jsonl', 'a') as f: f.write('{"phase": "stage2", "iterat')  # and in the middle of logging
    resumed = training(tmp_path).resume()
    assert 6 <= resumed.iteration < 15  # 8 was logged; the kill may come before its state is in place
    resumed.run(progress=False)
    assert (tmp_path/'history.jsonl').read_text() == (whole.folder/'history.jsonl').read_text()
    for name, net in whole.networks().items():
        for k, v in net.state_dict().items(): assert torch.equal(v, resumed.networks()[name].state_dict()[k]), (name, k)
    for name, opt in whole.opts.items():
        theirs = resumed.opts[name].state_dict()['state']
        for k, state in opt.state_dict()['state'].items(): assert all(torch.equal(v, theirs[k][what]) for what, v in state.items()), name


class Moves(Callback):
    "Notes which networks moved in every training iteration."
    order, run_valid = 90, False

    def __init__(self, run): self.nets, self.rows = dict(G=run.model.generator, D=run.discriminator, A=run.model.attention), []
    def before_batch(self): self.before = {k: parameters(n) for k, n in self.nets.items()}
    def after_batch(self): self.rows.append({k for k, n in self.nets.items() if not torch.equal(parameters(n), self.before[k])})


def test_who_moves_when(tmp_path):
    "Attention alone in pre-training; the generator in every warm-up iteration, then in every third of the whole training; the discriminator in all of its iterations."
    run = training(tmp_path, generator_every=3)
    moves = Moves(run)
    run.run([moves], progress=False)
    turn = lambda i: {'G', 'D', 'A'} if i % 3 == 0 else {'D'}
    assert moves.rows == [{'A'}]*3 + [{'G', 'A'}]*3 + [turn(i) for i in range(7, 16)]
    assert [r['iteration'] for r in history(tmp_path) if r['phase'].startswith('stage') and 'l1' in r] == [9, 12, 15]


def test_saved_model_paints_as_in_training(whole):
    "With recomputed statistics the saved model's eval-mode pictures are close to its train-mode ones; with the statistics it was trained with they are not."
    model, _, _ = load_synthesizer(whole.folder)
    batches = list(stage_loaders(whole.train_store, whole.valid_store, len(SCENE_LABELS), 2, 8).train)
    c1, x2, c2 = (torch.cat(t) for t in zip(*(b[:3] for b in batches)))
    with torch.no_grad():
        saved = model(c1, x2, c2)
        for (_, mine), (_, swinging) in zip(model.named_buffers(), whole.model.named_buffers()): mine.copy_(swinging)
        copied = model(c1, x2, c2)
        in_training = model.train()(c1, x2, c2)
    gap = float((saved-in_training).abs().mean())
    assert gap < .05
    assert gap < .5*float((copied-in_training).abs().mean())
