"""Measure the loader: photos decoded each time, from memory, from the mapped cache; and what a batch costs.

    python benchmarks/loader.py --data $MSCA_DATA --out results/loader.json

Three sources: procedural scenes and SIFT Flow photos (both 256×256) for networks of 128 pixels, LabelMe facades (short side 512) for the
paper's 256 pixels. Without --data only the first. `read` counts photos a second when every byte of photo and label map is copied; cold means
that the file was dropped from the system's memory before. `batch_cpu_ms` are milliseconds for one batch, drawn, cut, resized and made into
network inputs: `per_sample` mirrors whole photos and scales every sample by itself, as a training without batch augmentation does; `left_to_cpu`
is what remains for the processor when a GPU mirrors, spreads out and scales; `main_process` is what a batch costs the training's own process
when no or one worker process draws the samples.

Numbers are the best of a few rounds in which the rivals take turns. CPU time is what this process computed, wall time what passed: on a
shared machine the first is more to be trusted, and ratios more than either.
"""
import argparse
import json
import os
import platform
import sys
import time
import warnings
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import PIL
import torch
from train_shipped import every

from msca.base.files import write_whole
from msca.base.labels import SCENE_LABELS, one_hot
from msca.data.datasets import ProceduralScenes, SceneFolder
from msca.data.scene import image_to_tensor
from msca.learning.samples import EpochDataLoader, PairDataset, PhotoStore, cross_sample, network_batch, self_sample, stack_samples
from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig

S = len(SCENE_LABELS)


def best(rounds, **rivals):
    "Shortest CPU and wall seconds of each rival, the rivals taking turns."
    times = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, f in rivals.items():
            wall, cpu = time.perf_counter(), time.process_time()
            f()
            times[name].append((time.process_time()-cpu, time.perf_counter()-wall))
    return {name: [min(t) for t in zip(*ts)] for name, ts in times.items()}


def own_memory():
    "Memory of this process that is no mapped file, in MB; None where the system does not tell."
    try: lines = Path('/proc/self/status').read_text().splitlines()
    except OSError: return None
    return next((int(line.split()[1])/1024 for line in lines if line.startswith('RssAnon')), None)


def forget(folder):
    "Ask the system to drop the cache's files from its memory."
    for path in Path(folder).iterdir():
        with open(path, 'rb') as f: os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy_all(store, order):
    for i in order:
        for a in store[i]: np.array(a)


def rates(seconds, n): return dict(cpu_per_s=round(n/max(seconds[0], 1e-6)), wall_per_s=round(n/seconds[1]))


def measure_reading(scenes, size, folder, order):
    "Photos a second by every way of reading, the size of the file, and the memory that this process took to read all of it."
    n = len(order)
    make = lambda where=None: PhotoStore(scenes, size, cache=where)
    built = best(1, build=lambda: make(folder).prepare())['build']
    forget(folder)
    cold_store = make(folder).prepare()
    cold = best(1, cold=lambda: copy_all(cold_store, order))['cold']
    before = own_memory()
    mapped = make(folder).prepare()
    copy_all(mapped, order)
    grown = before and round(own_memory()-before, 1)
    memory = make()
    copy_all(memory, order)
    times = best(2, decode=lambda: copy_all(make(), order), memory=lambda: copy_all(memory, order), mapped=lambda: copy_all(mapped, order))
    seconds = dict(decode_each_time=times['decode'], memory=times['memory'], mapped_warm=times['mapped'], mapped_cold=cold, build=built)
    file_mb = round(sum(p.stat().st_size for p in Path(folder).iterdir())/1e6, 1)
    return dict(read={k: rates(v, n) for k, v in seconds.items()}, file_mb=file_mb, memory_for_reading_it_mb=grown), mapped


def per_sample(store, stage, numbers, seed):
    "A batch the old way: mirror photos, then turn every sample into network inputs by itself."
    samples = []
    for i in numbers:
        rng, arrays = np.random.default_rng((seed, 0, i)), store[i]
        if rng.random() < .5: arrays = [np.ascontiguousarray(a[:, ::-1]) for a in arrays]
        samples.append(cross_sample(*arrays, store.size, stage, rng))
        if stage == 2: samples.append(self_sample(*arrays, store.size, rng))
    samples.sort(key=lambda s: s.task)
    ids = lambda k: one_hot(torch.from_numpy(np.stack([s[k] for s in samples])).long(), S)
    photos = lambda k: torch.stack([image_to_tensor(s[k]) for s in samples])
    return ids(0), photos(1), ids(2), photos(3), torch.tensor([s.task for s in samples])


def measure_batches(store, stage, batch_size, seed):
    "Milliseconds a batch: the old way, the new way, and the parts of the new way."
    numbers = [int(i) for i in np.random.default_rng(seed).permutation(len(store))[:batch_size//stage]]
    dataset = PairDataset(store, stage, seed)
    draw = lambda: [dataset[i] for i in numbers]
    items = draw()
    stacked = stack_samples(items)
    new, old = (lambda: network_batch(stack_samples(draw()), S)), (lambda: per_sample(store, stage, numbers, seed))
    assert all(torch.equal(a, b) for a, b in zip(new(), old(), strict=True))
    times = best(15, per_sample=old, batched=new, draw_cut_resize=draw, stack=lambda: stack_samples(items),
                 mirror_float_one_hot=lambda: network_batch(stacked, S))
    ms = {k: round(1e3*cpu, 2) for k, (cpu, _) in times.items()}
    return dict(ms, left_to_cpu=round(ms['draw_cut_resize']+ms['stack'], 2), **measure_workers(store, stage, batch_size, seed))


def measure_workers(store, stage, batch_size, seed):
    "CPU milliseconds that a batch costs this process with 0 and 1 worker processes, the first batch left out."
    found = {}
    for workers in (0, 1):
        dl = EpochDataLoader(PairDataset(store, stage, seed), S, batch_size, seed)
        dl.fake_l.num_workers = workers
        batches, n = iter(dl), len(dl)-1
        next(batches)
        start = time.process_time()
        for _ in range(n): next(batches)
        found[f'main_process_{workers}_workers'] = round(1e3*(time.process_time()-start)/n, 2)
    return found


def measure_iteration(store, stage, batch_size, seed):
    "CPU milliseconds of the compact synthesizer's forward and backward pass on such a batch: the least that an iteration costs."
    torch.manual_seed(seed)
    net = SceneSynthesizer(SynthesizerConfig.compact(S)).train()
    c1, x2, c2, x1, _ = next(iter(EpochDataLoader(PairDataset(store, stage, seed), S, batch_size, seed)))
    return round(1e3*best(1, step=lambda: (net(c1, x2, c2)-x1).abs().mean().backward())['step'][0])


def measure(name, scenes, size, batch_size, seed):
    "Everything about one source."
    with TemporaryDirectory() as folder:
        order = np.random.default_rng(seed).permutation(len(scenes)).tolist()
        numbers, store = measure_reading(scenes, size, folder, order)
        report = dict(photos=len(scenes), size=size, **numbers, batch_size=batch_size)
        report['batch_cpu_ms'] = {f'stage_{stage}': measure_batches(store, stage, batch_size, seed) for stage in (1, 2)}
        report['compact_forward_backward_cpu_ms'] = measure_iteration(store, 2, batch_size, seed)
    print(name, json.dumps(report, indent=1), flush=True)
    return report


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--data', type=Path, help='folder with siftflow/ and labelmefacade/')
    ap.add_argument('--photos', type=int, default=300, help='at most so many of each source, evenly chosen')
    ap.add_argument('--batch-size', type=int, default=8)
    ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--out', type=Path, default=Path('results/loader.json'))
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    sources = dict(procedural=(ProceduralScenes(a.photos, 256, a.seed), 128))
    photos = lambda name, n: every(SceneFolder(a.data/name), n)
    if a.data: sources |= dict(siftflow=(photos('siftflow', a.photos), 128), labelmefacade=(photos('labelmefacade', a.photos//2), 256))
    start = time.perf_counter()
    found = {name: measure(name, scenes, size, a.batch_size, a.seed) for name, (scenes, size) in sources.items()}
    options = f"{' --data $MSCA_DATA' if a.data else ''} --photos {a.photos} --batch-size {a.batch_size} --seed {a.seed}"
    report = dict(command=f'OMP_NUM_THREADS=1 python benchmarks/loader.py{options}', seed=a.seed,
                  hardware=f'{os.cpu_count()}-core CPU, 1 thread, beside other work; no GPU',
                  date=str(date.today()), minutes=round((time.perf_counter()-start)/60, 1),
                  versions=dict(python=platform.python_version(), torch=torch.__version__, pillow=PIL.__version__), sources=found)
    with write_whole(a.out) as part: part.write_text(json.dumps(report, indent=1)+'\n')


if __name__ == '__main__': sys.exit(main())
