"Two processes over gloo: they compute what one would, one of them writes, and a stopped or killed training goes on."
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

warnings.filterwarnings('ignore', category=FutureWarning)

import two_processes

from msca.base.labels import InputError
from msca.learning.history import read_history
from msca.learning.launch import launch
from msca.learning.states import newest_state
from msca.model.checkpoint import load_synthesizer

TORCHRUN = [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', '--shutdown-timeout=120']


@pytest.fixture(scope='module')
def together(tmp_path_factory):
    "The folder where two processes have done everything, and what each of them has found."
    folder = tmp_path_factory.mktemp('two')
    launch([two_processes.__file__, folder])
    return folder, [torch.load(folder/f'{rank}.pt') for rank in (0, 1)]


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    "The same of one process."
    folder = tmp_path_factory.mktemp('one')
    return folder, two_processes.everything(folder/'together')


def furthest(a, b):
    "Largest difference between two dicts of tensors, relative to the largest of their values (at least 1)."
    assert a.keys() == b.keys() and a
    size = max(1., *(float(v.abs().max()) for v in a.values() if v.is_floating_point()))
    return max(float((v-b[k]).abs().max()) for k, v in a.items())/size


@pytest.mark.parametrize('phase', ['pretrain', 'warmup', 'stage1', 'stage2'])
def test_one_iteration(alone, together, phase):
    "Gradients of both networks, batch-norm statistics and spectral-norm vectors are those of one process, and equal in both."
    (_, one), (_, (first, second)) = alone, together
    assert one[phase].keys() == first[phase].keys()
    assert ('gradients of the discriminator' in one[phase]) == phase.startswith('stage')
    for what in one[phase]:
        if what == 'buffers' and phase == 'pretrain': continue  # no norm takes part
        assert furthest(one[phase][what], first[phase][what]) < 1e-5, what
        for k, v in first[phase][what].items(): assert torch.equal(v, second[phase][what][k]), (what, k)


def test_a_whole_training(alone, together):
    "In double precision, all phases, the generator's turn on every second iteration: losses and weights of one process, equal in both, files of one."
    one, two = (read_history(folder/'together') for folder, _ in (alone, together))
    assert [r.keys() for r in one] == [r.keys() for r in two] and len(one) == 15
    for a, b in zip(one, two): assert all(k == 'phase' or abs(a[k]-b[k]) < 1e-8*max(1, abs(a[k])) for k in a), (a, b)  # nine digits are written
    (_, ours), (_, (first, second)) = alone, together
    for name, net in first['networks'].items():
        assert furthest(ours['networks'][name], net) < 1e-10, name
        for k, v in net.items(): assert torch.equal(v, second['networks'][name][k]), (name, k)
    assert files(together[0]/'together') == files(alone[0]/'together')


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob('*'))


def test_a_batch_that_cannot_be_shared(tmp_path, monkeypatch):
    "Refused before anything is trained, also when only stage 2 could not be shared."
    for module in ('msca.learning.run', 'msca.base.processes'): monkeypatch.setattr(f'{module}.world_size', lambda: 2)
    monkeypatch.setattr('msca.base.processes.dist.get_rank', lambda: 0)
    for changes, wanted in ((dict(batch_size=6), 'multiple of 4'), (dict(batch_size=12, micro_batches=2), 'it must be a multiple of 8')):
        with pytest.raises(InputError, match=wanted): two_processes.training(tmp_path, **changes)
    with pytest.raises(InputError, match='13 training photos'): two_processes.training(tmp_path, batch_size=16)
    two_processes.training(tmp_path)


TRAIN = ('train --procedural 20 --size 32 --pretrain-epochs 1 --warmup-epochs 1 --epochs 1,0 --parser-epochs 1 --batch-size 4 '
         '--discriminator-width 8 --eps .01 --device cpu').split()


def test_the_command(tmp_path):
    "`torchrun -m msca train`, asked to stop, stops at one iteration; resumed, it comes to its end in the same run folder."
    run = tmp_path/'run'
    with open(tmp_path/'said', 'w') as said:
        child = subprocess.Popen([*TORCHRUN, '-m', 'msca', *TRAIN, '--out', run], stdout=said, stderr=subprocess.DEVNULL)
        wait_for(lambda: 'pretrain epoch 1/1' in (tmp_path/'said').read_text(), child)
        child.send_signal(signal.SIGTERM)
        child.wait(150)
    text = (tmp_path/'said').read_text()
    assert text.count('pretrain epoch 1/1') == text.count('parser: 1 epoch') == 1  # one of them speaks
    stopped = newest_state(run)[1]['iteration']
    assert read_history(run)[-1]['iteration'] == stopped

    resumed = launch(['-m', 'msca', 'train', '--out', run, '--resume'])
    assert resumed.count('trained; msca synth') == 1 and 'pretrain' in resumed
    rows = read_history(run)
    assert [r['iteration'] for r in rows] == list(range(1, 10)) and stopped < 9
    wanted = {'config.json', 'history.csv', 'history.png', 'model.safetensors', 'options.json', 'parser.json', 'parser.safetensors',
              'samples', 'training.pt'}
    assert wanted <= {p.name for p in run.iterdir()} and not list(run.glob('.*'))  # nothing half-written either
    assert load_synthesizer(run)[2]['training']['batch_size'] == 4


def wait_for(condition, child, seconds=240):
    "Until something has happened; the child must not end before."
    for _ in range(seconds*20):
        if condition(): return
        assert child.poll() is None, 'the training ended by itself'
        time.sleep(.05)
    child.kill()
    raise AssertionError('nothing happened')


@pytest.mark.slow
def test_killed(alone, tmp_path):
    "One of two processes is killed: the launcher ends the other, and one process alone goes on from the last state to the same end."
    code = 'import sys; sys.path.insert(0, sys.argv[1]); import two_processes as t; from msca.learning.launch import process_group\n' \
           'with process_group(): t.training(sys.argv[2], generator_every=2, checkpoint_every=2).run(progress=False)'
    (tmp_path/'program.py').write_text(code)
    child = subprocess.Popen([*TORCHRUN, tmp_path/'program.py', Path(__file__).parent, tmp_path/'run'], stderr=subprocess.DEVNULL,
                             env=os.environ)
    wait_for(lambda: (tmp_path/'run'/'training.pt').is_file(), child)
    workers = subprocess.run(['pgrep', '-P', str(child.pid)], capture_output=True, text=True).stdout.split()
    assert len(workers) == 2
    os.kill(int(workers[1]), signal.SIGKILL)
    assert child.wait(120) != 0
    resumed = two_processes.training(tmp_path/'run', generator_every=2).resume()
    assert resumed.iteration < 15
    resumed.run(progress=False)
    a, b = (read_history(folder) for folder in (alone[0]/'together', tmp_path/'run'))
    assert [r['iteration'] for r in a] == [r['iteration'] for r in b]
    assert abs(a[-2]['l1']-b[-2]['l1']) < .02
