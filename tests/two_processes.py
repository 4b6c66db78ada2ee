"What test_distributed lets two processes and one process do; as a program: `two_processes.py FOLDER`, under torchrun."
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from precision import double_precision

warnings.filterwarnings('ignore', category=FutureWarning)

from fastai.callback.core import Callback, CancelFitException

from msca.base.labels import SCENE_LABELS
from msca.base.processes import rank, world_size
from msca.data.datasets import ProceduralScenes
from msca.learning.discriminators import DiscriminatorConfig, MultiScaleDiscriminator
from msca.learning.history import RunLog
from msca.learning.launch import fit_together, process_group
from msca.learning.learner import AttentionPretrainer, pretraining_learner, synthesis_learner
from msca.learning.losses import PerceptualLoss
from msca.learning.recipe import LossWeights, TrainingConfig, phases
from msca.learning.run import TrainingRun
from msca.learning.samples import PhotoStore, stage_loaders
from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig

torch.set_num_threads(1)
S, EIGHT = len(SCENE_LABELS), (8,)*5
TOY = SynthesizerConfig(S, pyramid_widths=EIGHT, image_channels=EIGHT, label_channels=EIGHT, slots=(4,)*5, mlp_width=8, widths=EIGHT,
                        spade_hidden=EIGHT)
# Adam's eps is large: with a small one, a gradient of rounding errors moves a weight as far as any other
RECIPE = TrainingConfig(size=32, pretrain_epochs=1, warmup_epochs=1, epochs=(1, 1), batch_size=4, lr=1e-3, pretrain_lr=3e-3, eps=1e-2,
                        discriminator_width=8,
                        losses=LossWeights(1, 2, 2, 5, .5), sample_every=12, checkpoint_every=5)


def gradients(net):
    return {k: p.grad.clone() for k, p in net.named_parameters() if p.grad is not None}


class FirstIteration(Callback):
    "Notes gradients and buffers of the first iteration, and ends the fit after the second."
    order, run_valid = 99, False

    def __init__(self, model, discriminator): self.nets, self.found, self.done = [net for net in (model, discriminator) if net], {}, False

    def after_backward(self):
        if not self.done: self.found['gradients of the generator'] = gradients(self.nets[0])

    def after_batch(self):
        if self.done: raise CancelFitException
        for net in self.nets[1:]: self.found['gradients of the discriminator'] = gradients(net)
        self.found['buffers'] = {k: b.clone() for net in self.nets for k, b in net.named_buffers()}
        self.done = True


def one_iteration(phase):
    "Gradients and buffers after one iteration of a phase, from fresh networks; a second one follows: every process must survive the first."
    torch.manual_seed(rank())  # the processes begin with different weights: rank 0's must go to all
    model, discriminator = SceneSynthesizer(TOY), MultiScaleDiscriminator(DiscriminatorConfig(S, 8, 3))
    model.unused = torch.nn.Linear(2, 2)  # as a variant of the generator might have it
    torch.manual_seed(0)
    perceptual = PerceptualLoss.squeezenet(None)
    photos, held_out = (PhotoStore(ProceduralScenes(4, 64, seed=seed), 32) for seed in (1, 2))
    dls = stage_loaders(photos, held_out, S, phase.stage, RECIPE.batch_size, rank=rank(), world_size=world_size())
    if phase.name == 'pretrain':
        pretrainer = AttentionPretrainer(model)
        look = FirstIteration(pretrainer, None)
        learn = pretraining_learner(dls, pretrainer, RECIPE, cbs=[look])
    else:
        if not phase.adversarial: discriminator = None
        look = FirstIteration(model, discriminator)
        learn = synthesis_learner(dls, model, discriminator, RECIPE, perceptual, cbs=[look])
    with fit_together(learn), learn.no_bar(), learn.no_logging(): learn.fit(2)
    return look.found


def training(folder, **changes):
    "A toy training of 15 iterations: 3 of pre-training, 3 of warm-up, 3 in stage 1, 6 in stage 2."
    return TrainingRun(folder, ProceduralScenes(13, 64, seed=1), ProceduralScenes(4, 64, seed=2), SCENE_LABELS, replace(RECIPE, **changes),
                       TOY)


def everything(folder):
    "One iteration of each phase, and a whole training in `folder`, in double precision; what is needed to compare."
    found = {phase.name: one_iteration(phase) for phase in phases(RECIPE)}
    drawn = RunLog.draw
    RunLog.draw = lambda self: None  # drawing history.png takes longer than this training
    try:
        with double_precision():
            run = training(folder, generator_every=2)
            run.run(progress=False)
    finally: RunLog.draw = drawn
    found['networks'] = {name: net.state_dict() for name, net in run.networks.named().items()}
    return found


if __name__ == '__main__':
    with process_group():
        folder = Path(sys.argv[1])
        torch.save(everything(folder/'together'), folder/f'{rank()}.pt')
