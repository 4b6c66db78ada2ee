"""What the speed options of a training bring on this device: `python benchmarks/training_speed.py --out results/training_speed.json`.

One option at a time against the plain compact recipe, on the same batches of procedural scenes: both networks updated in every iteration. The
median over iterations is reported, after a few to warm up; on a CPU it is processor time, so that other programs disturb little. Ratios within
one run are what counts.
"""
import argparse
import json
import platform
import statistics
import time
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from fastai.callback.core import Callback, CancelFitException

from msca.base.labels import SCENE_LABELS
from msca.data.datasets import ProceduralScenes
from msca.learning.discriminators import DiscriminatorConfig, MultiScaleDiscriminator
from msca.learning.learner import synthesis_learner
from msca.learning.recipe import TrainingConfig
from msca.learning.samples import PhotoStore, stage_loaders
from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig

OPTIONS = {'plain': {}, 'bfloat16': dict(precision='bfloat16'), 'float16': dict(precision='float16'), 'channels_last': dict(channels_last=True),
           'bfloat16 and channels_last': dict(precision='bfloat16', channels_last=True), 'fused': dict(fused=True), 'compile': dict(compile=True),
           'micro_batches 2': dict(micro_batches=2)}


class Clock(Callback):
    "Seconds of every iteration."
    order, run_valid = 99, False

    def __init__(self, n, device): self.n, self.device, self.marks = n, device, []

    def after_batch(self):
        if self.device.type == 'cuda': torch.cuda.synchronize()
        self.marks.append(time.perf_counter() if self.device.type == 'cuda' else time.process_time())
        if len(self.marks) > self.n: raise CancelFitException


def seconds(config, device, store, n):
    "Seconds per iteration after warming up, and the largest memory on a GPU in GB."
    torch.manual_seed(0)
    model = SceneSynthesizer(SynthesizerConfig.compact(len(SCENE_LABELS))).to(device)
    critic = MultiScaleDiscriminator(DiscriminatorConfig(len(SCENE_LABELS), config.discriminator_width)).to(device)
    for net in (model, critic):
        if config.channels_last: net.to(memory_format=torch.channels_last)
        if config.compile: net.compile()
    if device.type == 'cuda': torch.cuda.reset_peak_memory_stats()
    clock = Clock(n, device)
    learn = synthesis_learner(stage_loaders(store, store, len(SCENE_LABELS), 2, config.batch_size, 0, device), model, critic, config, cbs=[clock])
    with learn.no_bar(), learn.no_logging(): learn.fit(100)
    steps = [b-a for a, b in zip(clock.marks, clock.marks[1:])][n//3:]
    return statistics.median(steps), round(torch.cuda.max_memory_allocated()/2**30, 2) if device.type == 'cuda' else None


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--out', type=Path, required=True)
    ap.add_argument('--options', nargs='+', default=list(OPTIONS), choices=list(OPTIONS), help='which to measure, plain first (default: all)')
    ap.add_argument('--size', type=int, default=128)
    ap.add_argument('--iterations', type=int, default=9)
    ap.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    device = torch.device(a.device)
    store = PhotoStore(ProceduralScenes(32, 2*a.size), a.size)
    for i in range(len(store)): store[i]
    plain = TrainingConfig(size=a.size)
    rows = {}
    for name in a.options:
        changes = OPTIONS[name]
        start = time.perf_counter()
        try: step, memory = seconds(replace(plain, **changes), device, store, a.iterations)
        except Exception as e: rows[name] = dict(failed=' '.join(str(e).split())[:200])
        else: rows[name] = dict(seconds=round(step, 3), times_plain=round(step/rows.get('plain', dict(seconds=step))['seconds'], 3),
                                all_iterations=round(time.perf_counter()-start, 1), **({'gigabytes': memory} if memory else {}))
        print(name, rows[name], flush=True)
    what = torch.cuda.get_device_name() if device.type == 'cuda' else f'{platform.processor() or platform.machine()}, one thread'
    a.out.write_text(json.dumps(dict(command=f'python benchmarks/training_speed.py --out {a.out} --size {a.size} --iterations '
                                     f'{a.iterations} --options '+' '.join(repr(o) for o in a.options), device=what,
                                     torch=torch.__version__, unit='seconds of processor time per iteration' if device.type == 'cpu' else 'seconds per iteration',
                                     batch_size=plain.batch_size, rows=rows), indent=1)+'\n')


if __name__ == '__main__': main()
