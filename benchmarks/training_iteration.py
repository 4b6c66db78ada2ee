"""What an iteration of `--config scenes` costs now and at an earlier commit, in turns, in seconds of one thread, and its peak memory.

    python benchmarks/training_iteration.py --commit 6f9c3dc --out results/training_iteration.json

Every process trains a few iterations with the semantic discriminator and VGG-16's perceptual loss, both with random weights, on procedural
scenes; the generator moves in each. Seconds are those of the thread, so that other programs disturb little; memory is the peak of what
torch's allocator gave out in one iteration. Ratios within one run are what counts. `profile` tells what the iteration of now spends its time with,
by torch's profiler, and how many operations it needs, by torch's FLOP counter: what equal losses cannot do without.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


KINDS = dict(convolutions=('conv',), conversions_and_copies=('copy_', '_to_copy'), norms=('batch_norm',), matrix_products=('mm', 'bmm', 'addmm'))


def shares(averages):
    "Share of every kind of operation in the time of an iteration."
    seconds = dict.fromkeys([*KINDS, 'others'], 0.)
    for event in averages:
        name = event.key.removeprefix('aten::')
        kind = next((k for k, parts in KINDS.items() if any(name == p or len(p) > 3 and p in name for p in parts)), 'others')
        seconds[kind] += event.self_cpu_time_total
    return {k: round(v/sum(seconds.values()), 3) for k, v in seconds.items()}


def work(precision, crops, batch_size, iterations):
    "Seconds of every iteration but the first; the peak and the profile of one more, the operations of another."
    import time
    import warnings
    from copy import deepcopy
    from dataclasses import replace

    import torch
    from fastai.callback.core import Callback, CancelFitException
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    from msca.base.labels import SCENE_LABELS
    from msca.data.datasets import ProceduralScenes
    from msca.learning.backbones import load_backbone
    from msca.learning.callbacks import EMA, SemanticOpponent
    from msca.learning.learner import synthesis_learner
    from msca.learning.losses import PerceptualLoss
    from msca.learning.recipe import TrainingConfig
    from msca.learning.samples import PhotoStore, stage_loaders
    from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig

    class Operations(TorchDispatchMode):
        "Counts floating-point operations. torch's own `FlopCounterMode` does not know `torch.autograd.grad` inside a forward pass."
        n = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out, count = func(*args, **(kwargs or {})), flop_registry.get(func._overloadpacket)
            if count: self.n += count(*args, **(kwargs or {}), out_val=out)
            return out

    class Clock(Callback):
        "Seconds of the thread, then memory."
        order, run_valid = 99, False
        def __init__(self): self.marks, self.peak = [], 0

        def after_batch(self):
            self.marks.append(time.thread_time())
            if len(self.marks) == iterations+1: self.profile = torch.profiler.profile(profile_memory=True).__enter__()
            if len(self.marks) == iterations+2: self.read_profile()
            if len(self.marks) < iterations+3: return
            self.operations.__exit__(None, None, None)
            raise CancelFitException

        def read_profile(self):
            self.profile.__exit__(None, None, None)
            self.shares, now = shares(self.profile.key_averages()), 0
            for e in sorted((e for e in self.profile.profiler.kineto_results.events() if e.name() == '[memory]'), key=lambda e: e.start_ns()):
                now += e.nbytes()
                self.peak = max(self.peak, now)
            self.operations = Operations().__enter__()

    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    torch.manual_seed(0)
    n_labels, config = len(SCENE_LABELS), replace(TrainingConfig.scenes(), size=2*crops, batch_size=batch_size, precision=precision)
    model = SceneSynthesizer(SynthesizerConfig.scenes(n_labels))
    nets = model, deepcopy(model), SemanticOpponent(load_backbone(config.backbone, None), n_labels)
    for net in nets: net.to(memory_format=torch.channels_last)
    store = PhotoStore(ProceduralScenes(2*batch_size, 2*crops), crops)
    for i in range(len(store)): store[i]
    clock = Clock()
    dls = stage_loaders(store, store, n_labels, 2, batch_size)
    learn = synthesis_learner(dls, model, nets[2], config, PerceptualLoss.vgg16(None), cbs=[EMA(nets[1], config.ema_decay), clock])
    with learn.no_bar(), learn.no_logging(): learn.fit(iterations+1)
    steps = [b-a for a, b in zip(clock.marks, clock.marks[1:-2])]
    print(json.dumps(dict(seconds=min(steps), peak_mb=clock.peak/2**20, shares=clock.shares, gflop=round(clock.operations.n/1e9, 1))))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--commit', default='6f9c3dc', help='what to compare with')
    ap.add_argument('--rounds', type=int, default=2)
    ap.add_argument('--crops', type=int, default=64, help='side of the crops, pixels (the recipe has 128)')
    ap.add_argument('--batch-size', type=int, default=8)
    ap.add_argument('--iterations', type=int, default=4)
    ap.add_argument('--out', type=Path, default=ROOT/'results'/'training_iteration.json')
    ap.add_argument('--work', metavar='PRECISION', help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.work: return work(a.work, a.crops, a.batch_size, a.iterations)
    rows = {}
    with tempfile.TemporaryDirectory() as old:
        archive = subprocess.run(['git', '-C', str(ROOT), 'archive', a.commit, 'msca', 'settings.ini'], capture_output=True, check=True).stdout
        subprocess.run(['tar', '-x', '-C', old], input=archive, check=True)
        for _ in range(a.rounds):
            for side, source in dict(before=old, now=str(ROOT)).items():
                for precision in ('float32', 'bfloat16'):
                    env = {**os.environ, 'PYTHONPATH': source, 'OMP_NUM_THREADS': '1'}
                    command = [sys.executable, __file__, '--work', precision, '--crops', str(a.crops), '--batch-size', str(a.batch_size), '--iterations', str(a.iterations)]
                    done = subprocess.run(command, env=env, cwd=source, capture_output=True, text=True, check=True)
                    rows.setdefault(f'{side}, {precision}', []).append(json.loads(done.stdout.strip().split('\n')[-1]))
                    last = rows[f'{side}, {precision}'][-1]
                    print(side, precision, last['seconds'], last['peak_mb'], flush=True)
    found = {name: {k: round(statistics.median(r[k] for r in runs), 3) for k in ('seconds', 'peak_mb')} for name, runs in rows.items()}
    profile = {p: {k: rows[f'now, {p}'][-1][k] for k in ('shares', 'gflop')} for p in ('float32', 'bfloat16')}
    plain = found['before, float32']
    ratios = {name: {k: round(v/plain[k], 3) for k, v in row.items()} for name, row in found.items()}
    import torch
    command = f'python benchmarks/training_iteration.py --commit {a.commit} --rounds {a.rounds} --crops {a.crops} --batch-size {a.batch_size} --iterations {a.iterations}'
    a.out.write_text(json.dumps(dict(what="an iteration of the recipe 'scenes', both networks updated; ratios to the earlier commit in float32, the recipe's default",
                                     command=command, seed=0, data='procedural scenes', torch=torch.__version__, unit='least seconds of one thread, medians over rounds; MiB',
                                     measured=found, ratios=ratios, profile=profile), indent=1)+'\n')
    print(json.dumps(ratios, indent=1))


if __name__ == '__main__': main()
