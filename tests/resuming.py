"What tests of several models' trainings share: one that crashed and went on ends as one that did not."
import pytest
import torch
from fastai.callback.core import Callback


def train_and_resume(training, folder, iteration, cbs=()):
    """A whole training, and one that crashes after an iteration and goes on: the same history and weights. Returns the whole one.

    `training` makes a `TrainingRun` for a folder; `cbs` are callbacks for the whole one.
    """
    class Crash(Callback):
        order, run_valid = 99, False
        def after_batch(self):
            if self.learn.save_state.training_run.iteration == iteration: raise ZeroDivisionError('a crash')

    whole = training(folder/'whole')
    whole.run(list(cbs), progress=False)
    with pytest.raises(ZeroDivisionError): training(folder/'stopped').run([Crash()], progress=False)
    resumed = training(folder/'stopped').resume()
    resumed.run(progress=False)
    assert (folder/'whole'/'history.csv').read_text() == (folder/'stopped'/'history.csv').read_text()
    for kind, net in whole.networks.named().items():
        theirs = resumed.networks.named()[kind].state_dict()
        for k, v in net.state_dict().items(): assert torch.equal(v, theirs[k]), (kind, k)
    return whole
