"""How much work, time and memory things take: `make bench`, which is `python benchmarks/bench.py --out results/bench.json`.

Two yardsticks stand beside this source: commit 2d49569, run from a temporary folder in the same environment, and what msca competes with: SPADE
without an exemplar, and dense attention through torch's `scaled_dot_product_attention`. Each form is a process of its own that waits for orders, and
they take turns within every repeat. Times are seconds of wall and of processor; other programs disturb the second less. Medians are reported; ratios
within this one run are what counts. `training` and `loader` are short runs of training_iteration.py and loader.py.
"""
import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
import zipfile
from importlib import import_module
from io import BytesIO
from pathlib import Path

ROOT, BEFORE = Path(__file__).parents[1], '2d49569'
MODEL = {'old': 'scenes-256'}  # its name then; now it is another's
ATTENTION = dict(n_image=64, n_label=32, n_slots=16)  # channels and slots of the attention that is measured alone


# what a process does that waits for orders

def _pair(size):
    "A layout and an exemplar with its map, prepared; the same in both sources."
    import numpy as np
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(0, 17, (2, 8, 8), dtype=np.uint8), np.ones((size//8, size//8), np.uint8))
    return ids[0], rng.integers(0, 256, (size, size, 3), dtype=np.uint8), ids[1]


def _tensors(size, batch=1):
    import torch
    if FORM == 'old':
        from msca.labels import one_hot
        from msca.scene import image_to_tensor
    else:
        from msca.base.labels import one_hot
        from msca.data.scene import image_to_tensor
    layout, photo, its_map = _pair(size)
    onehot = lambda ids: one_hot(torch.from_numpy(ids)[None], 17)
    return tuple(t.repeat(batch, 1, 1, 1) for t in (onehot(layout), image_to_tensor(photo)[None], onehot(its_map)))


def _synthesizer():
    "The model of the same weights, then and now."
    if '_s' not in globals():
        from msca import Synthesizer
        folder = Path(__import__('msca').__file__).parent/'pretrained_models'/MODEL.get(FORM, 'scenes-256-v1')
        globals()['_s'] = Synthesizer.load(folder, device='cpu', quiet=True, **({} if PRECISION is None else dict(precision=PRECISION)))
    return globals()['_s']


def _network(): return _synthesizer().model if FORM in ('old', 'plain') else _synthesizer().painter


def job_encode(size, batch=1):
    "An exemplar's slots."
    _, photo, its_map = _tensors(size, batch)
    if FORM == 'old':
        from msca.interpolation import read_exemplar
        return lambda: read_exemplar(_network(), photo, its_map)
    return lambda: _network().encode(photo, its_map)


def job_paint(size, batch=1):
    "A layout in a style that is known."
    layout, photo, its_map = _tensors(size, batch)
    network = _network()
    if FORM == 'old':
        from msca.interpolation import interpolate_styles, read_exemplar, read_target
        style = read_exemplar(network, photo, its_map)
        return lambda: interpolate_styles(network, read_target(network, layout), [style], [1])
    style = network.encode(photo, its_map)
    return lambda: network.paint(layout, style)


def job_synthesize(size, batch=1):
    "Both."
    layout, photo, its_map = _tensors(size, batch)
    network = _network()
    if FORM in ('old', 'plain'): return lambda: network(layout, photo, its_map)
    return lambda: network.paint(layout, network.encode(photo, its_map))


def job_grid(size):
    "Six layouts in the styles of six exemplars."
    from PIL import Image
    scene = import_module('msca.scene' if FORM == 'old' else 'msca.data.scene').Scene
    s, (layout, photo, its_map) = _synthesizer(), _pair(size)
    exemplars = [scene(Image.fromarray(photo), its_map, s.label_set, f'{i}') for i in range(6)]
    return lambda: s.grid([layout]*6, exemplars, size)


def job_parse(size):
    "The label map of a photo."
    from PIL import Image
    photo, s = Image.fromarray(_pair(size)[1]), _synthesizer()
    return lambda: s.parse(photo)


def _untrained(name, shape):
    "A model of random weights, as it is trained or folded."
    import torch

    from msca.model.folded import fold
    from msca.model.synthesizer import build_synthesizer, find_variant
    torch.manual_seed(0)
    model = build_synthesizer(name, getattr(find_variant(name).config, shape)(17), None).eval()
    return model if FORM == 'plain' else fold(model, PRECISION or 'auto')


def job_learn_to_parse(size):
    "Four iterations of the segmenter's training, sixteen drawn views each, as `msca train` takes them."
    import torch
    if FORM == 'old':
        from msca.datasets import ProceduralScenes
        from msca.parser import ParserConfig as Config
        from msca.parser_training import parser_learner as learner
    else:
        from msca.data.datasets import ProceduralScenes
        from msca.learning.segmenter_training import segmenter_learner as learner
        from msca.model.segmenter import SegmenterConfig as Config
    torch.manual_seed(0)
    learn = learner(ProceduralScenes(64, 2*size), ProceduralScenes(1, 2*size), Config(17), size)
    bfloat16 = FORM != 'old' and PRECISION is None

    def fit():
        with torch.enable_grad(), learn.no_bar(), learn.no_logging(), torch.autocast('cpu', torch.bfloat16, enabled=bfloat16, cache_enabled=False): learn.fit(1)
    return fit


def job_spade(size):
    "SPADE of the same size, which has no exemplar."
    model, (layout, _, _) = _untrained('spade', 'compact'), _tensors(size)
    return lambda: model.paint(layout, [])


def job_published_spade(size):
    "SPADE of the published size."
    model, (layout, _, _) = _untrained('spade', 'paper'), _tensors(size)
    return lambda: model.paint(layout, [])


def job_published_paint(size):
    "A layout in a known style, by the paper's configuration."
    model, (layout, photo, its_map) = _untrained('msca', 'paper'), _tensors(size)
    style = model.encode(photo, its_map)
    return lambda: model.paint(layout, style)


def _attention(size, dense, backward):
    import torch
    import torch.nn.functional as F
    torch.manual_seed(0)
    n, m, k = ATTENTION.values()
    x, c2, c1 = (torch.randn(1, ch, size, size, requires_grad=backward) for ch in (n, m, m))
    if dense:
        flat = lambda t: t.flatten(2).transpose(1, 2)
        def forward(): return F.scaled_dot_product_attention(flat(c1), flat(c2), flat(x))
    else:
        from msca.model.attention import MaskedSpatialChannelAttention
        module = MaskedSpatialChannelAttention(n, m, k)
        def forward(): return module(x, c2, c1)
    return (lambda: forward().sum().backward()) if backward else forward


def job_attention(size): return _attention(size, False, False)
def job_dense_attention(size): return _attention(size, True, False)
def job_attention_backward(size): return _attention(size, False, True)
def job_dense_attention_backward(size): return _attention(size, True, True)


def serve():
    "Do what is asked on standard input, one JSON object a line, and say how long it took."
    import torch
    warnings.simplefilter('ignore')
    out, jobs = os.fdopen(os.dup(1), 'w'), {}
    os.dup2(2, 1)
    for line in sys.stdin:
        name, size, threads, *batch = json.loads(line)
        torch.set_num_threads(threads)
        gradients = torch.enable_grad() if name.endswith('backward') or name.startswith('learn') else torch.inference_mode()
        with gradients:
            job = name, size, *batch
            if job not in jobs:
                jobs.clear()
                jobs[job] = globals()[f'job_{name}'](size, *batch)
                jobs[job]()
            wall, cpu = time.perf_counter(), time.process_time()
            jobs[job]()
            took = time.perf_counter()-wall, time.process_time()-cpu
        print(json.dumps((*took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)), file=out, flush=True)


# what starts them

class Worker:
    "A process that runs jobs in one form of the source."
    def __init__(self, form, source, precision=None):
        command = [sys.executable, __file__, '--serve', form, *([precision] if precision else [])]
        self.process = subprocess.Popen(command, env=environment(source), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *job):
        "(wall seconds, processor seconds, peak memory in MB) of one call."
        print(json.dumps(job), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer: raise RuntimeError(f'{job}: the process ended; its message stands above')
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def environment(source): return {**os.environ, 'PYTHONPATH': str(source), 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg'}


def earlier_source(folder, commit=BEFORE):
    "The package of an earlier commit, or None where git does not have it."
    done = subprocess.run(['git', '-C', ROOT, 'archive', '--format=zip', commit, 'msca'], capture_output=True)
    if done.returncode: return None
    zipfile.ZipFile(BytesIO(done.stdout)).extractall(folder)
    return Path(folder)


def in_turns(workers, job, repeats):
    "Medians of several forms, taking turns."
    rows = {name: [] for name in workers}
    for _ in range(repeats):
        for name, worker in workers.items(): rows[name].append(worker.ask(*job))
    return summary(rows)


def summary(rows):
    "Medians of (wall, processor, memory), and everything against the first form."
    found = {name: dict(zip(('wall', 'cpu', 'peak_mb'), (statistics.median(v) for v in zip(*r)))) for name, r in rows.items()}
    first = next(iter(found.values()))
    for r in found.values():
        r.update(cpu_ratio=r['cpu']/max(first['cpu'], 1e-9), wall_ratio=r['wall']/max(first['wall'], 1e-9))
    return {name: {k: round(v, 1 if k == 'peak_mb' else 5) for k, v in r.items()} for name, r in found.items()}


def processes(sources, repeats, folder):
    "`msca synth` and `Synthesizer.load()` as processes of their own."
    from PIL import Image
    layout, photo, _ = _pair(256)
    Image.fromarray(layout, 'L').save(Path(folder)/'layout.png')
    Image.fromarray(photo).save(Path(folder)/'photo.png')
    synth = ['-m', 'msca', 'synth', '--layout', 'layout.png', '--exemplar', 'photo.png', '--out', 'out.png', '--device', 'cpu']
    load = ['-c', "from msca import Synthesizer; Synthesizer.load(device='cpu', quiet=True)"]
    found = {}
    for what, command in {'msca synth': synth, 'Synthesizer.load': load, 'import torch': ['-c', 'import torch']}.items():
        rows = {name: [] for name in sources}
        for _ in range(repeats):
            for name, source in sources.items(): rows[name].append(process_cost([sys.executable, *command], source, folder))
        found[what] = summary(rows)
        print(what, {n: (round(r['cpu'], 2), round(r['cpu_ratio'], 2)) for n, r in found[what].items()}, flush=True)
    return found


def process_cost(command, source, folder):
    "(wall seconds, processor seconds, peak memory in MB) of a process."
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment(source), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode: raise RuntimeError(f'{command} failed')
    return time.perf_counter()-start, used.ru_utime+used.ru_stime, used.ru_maxrss/1024


def app(sources, repeats, folder):
    "`msca app` until its page is there, with its first picture."
    rows = {name: [] for name in sources}
    for _ in range(repeats):
        for name, source in sources.items(): rows[name].append(app_cost(source, folder))
        print('msca app', {n: tuple(round(x, 2) for x in r[-1]) for n, r in rows.items()}, flush=True)
    return {'msca app': summary(rows)}


def app_cost(source, folder):
    "(wall seconds, processor seconds, memory in MB) of all processes of the app when a visitor has got the page."
    import psutil
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, '-m', 'msca', 'app', '--port', '0', '--no-browser', '--device', 'cpu'], cwd=folder, env=environment(source),
                               stdout=subprocess.PIPE, text=True)
    try:
        urllib.request.urlopen(process.stdout.readline().split()[0], timeout=600).read()
        took, top = time.perf_counter()-start, psutil.Process(process.pid)
        running = [top, *top.children(recursive=True)]
        return took, sum(sum(p.cpu_times()[:4]) for p in running), sum(p.memory_full_info().pss for p in running)/2**20
    finally:
        process.terminate()
        process.wait(60)


def work(large):
    "GFLOP of one picture of 256×256, counted by torch, of both configurations and SPADE's."
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from msca.model.folded import fold
    from msca.model.synthesizer import build_synthesizer, find_variant
    from msca.pretrained.models import fold_spectral_norm
    globals()['FORM'], found = 'new', {}
    layout, photo, its_map = _tensors(256)
    for size in ('compact', 'paper')[:1+large]:
        for name in ('msca', 'spade'):
            config = getattr(find_variant(name).config, size)(17)
            plain = fold_spectral_norm(build_synthesizer(name, config, None))
            for form, model in (('plain', plain), ('folded', fold(plain, 'float32'))):
                with torch.no_grad():
                    with FlopCounterMode(display=False) as encoding: style = model.encode(photo, its_map)
                    with FlopCounterMode(display=False) as painting: model.paint(layout, style)
                found[f'{size}, {name}, {form}'] = dict(encode=round(encoding.get_total_flops()/1e9, 2), paint=round(painting.get_total_flops()/1e9, 2))
    return found


def attention_limit(side=128):
    "What a pass of attention alone computes and moves, counted operation by operation, and how fast a copy of as many bytes is."
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Count(TorchDispatchMode):
        "Floating-point operations, and bytes of the tensors that operations read and write; views move nothing."
        flop = moved = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out, count = func(*args, **(kwargs or {})), flop_registry.get(func._overloadpacket)
            if count: self.flop += count(*args, **(kwargs or {}), out_val=out)
            tensors = [a for a in (*args, *(args[0] if args and isinstance(args[0], (list, tuple)) else ())) if isinstance(a, torch.Tensor)]
            if not func.is_view: self.moved += sum(a.nbytes for a in (*tensors, out) if isinstance(a, torch.Tensor))
            return out
    torch.set_num_threads(1)
    with torch.no_grad():
        run = _attention(side, False, False)
        run()
        with Count() as count: run()
        source, target, seconds = torch.zeros(count.moved//8), torch.zeros(count.moved//8), {'copy': [], 'attention': []}
        for _ in range(21):
            for name, f in (('copy', lambda: target.copy_(source)), ('attention', run)):
                start = time.process_time()
                f()
                seconds[name].append(time.process_time()-start)
    copy, own = (statistics.median(v) for v in seconds.values())
    return dict(side=side, mflop=round(count.flop/1e6, 1), moved_mb=round(count.moved/1e6, 1), copy_ms=round(1e3*copy, 2), attention_ms=round(1e3*own, 2),
                share_of_bandwidth=round(copy/own, 3))


def report_of(script, folder, *options):
    "The report of a benchmark that is a program of its own."
    out = Path(folder)/f'{script}.json'
    subprocess.run([sys.executable, Path(__file__).parent/f'{script}.py', '--out', out, *options], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, 'OMP_NUM_THREADS': '1'})
    return json.loads(out.read_text())


def exponent(rows):
    "Of a power law through the smallest and the largest size, in pixels."
    from math import log
    (a, ta), (b, tb) = ((s, r['cpu']) for s, r in (rows[0], rows[-1]))
    return round(log(tb/ta)/log((b/a)**2), 3)


def draw(found, folder):
    "Two pictures of the figures."
    from matplotlib.figure import Figure
    rows = {job.removesuffix(', 1 thread'): r for job, r in found['jobs'].items()
            if job.endswith('1 thread') and not job.startswith(('attention', 'dense', 'spade', 'published'))}
    fig = Figure(figsize=(7.2, 1+.2*len(rows)), dpi=90, layout='constrained')
    left, right = fig.subplots(1, 2)
    first = next(iter(next(iter(rows.values()))))
    for i, form in enumerate(('float32', 'auto')):
        at = [(k+.4*i, r[form]['cpu_ratio']) for k, r in enumerate(rows.values()) if form in r]
        left.barh(*zip(*at), height=.38, label=dict(auto="as loaded ('auto')").get(form, form))
    left.axvline(1, color='.3', lw=1)
    left.set_yticks([k+.2 for k in range(len(rows))], list(rows), fontsize=7)
    left.invert_yaxis()
    left.set_xlabel(f'processor time, {first} = 1', fontsize=8)
    left.legend(fontsize=7, loc='lower center', bbox_to_anchor=(.4, 1), ncols=2)
    for kind in ('attention', 'dense_attention', 'attention_backward', 'dense_attention_backward'):
        points = [(int(job.split(', ')[1]), next(iter(r.values()))['cpu']*1e3) for job, r in found['jobs'].items() if job.split(', ')[0] == kind]
        if points: right.loglog(*zip(*points), marker='o', ms=3, label=kind.replace('_', ' '), ls='--' if 'dense' in kind else '-')
    right.set_xticks((32, 64, 128, 256, 512), ('32', '64', '128', '256', '512'))
    right.minorticks_off()
    right.set_xlabel('side of the map in pixels', fontsize=8)
    right.set_ylabel('milliseconds', fontsize=8)
    right.legend(fontsize=7, loc='lower center', bbox_to_anchor=(.5, 1), ncols=2)
    fig.savefig(Path(folder)/'bench.png')


def busy_cores(seconds=3):
    "How many cores other programs keep busy, now: a load average would still know of what has just ended."
    import psutil
    return psutil.cpu_percent(seconds)/100*psutil.cpu_count()


def measure(sizes, repeats, folder, beside, only=None):
    "Everything, or processes alone, while other programs keep so many cores busy."
    threads_too = [1, 2] if (os.cpu_count() or 1)-beside > 1.5 else [1]  # threads that wait for each other beside other programs tell nothing
    (Path(folder)/'old').mkdir()
    old = earlier_source(Path(folder)/'old')
    sources = {**({BEFORE: old} if old and max(sizes) >= 256 else {}), 'new': ROOT}
    if only: return dict(processes=dict(processes=processes, app=app)[only](sources, max(1, repeats//2), folder))
    workers = {**({'2d49569': Worker('old', old)} if old else {}), 'plain': Worker('plain', ROOT),
               'float32': Worker('new', ROOT, 'float32'), 'auto': Worker('new', ROOT)}
    jobs = {}
    def take(name, size, forms=None, threads=1, n=repeats, batch=None):
        chosen = {k: w for k, w in workers.items() if forms is None or k in forms}
        key = f'{name}, {size}{f", batch {batch}" if batch else ""}, {threads} thread{"s" if threads > 1 else ""}'
        jobs[key] = in_turns(chosen, (name, size, threads, *([batch] if batch else [])), n)
        print(key, {k: (round(r['cpu'], 4), round(r['cpu_ratio'], 3)) for k, r in jobs[key].items()}, flush=True)
    for size in sizes:
        for name in ('encode', 'paint', 'synthesize'):
            for threads in threads_too if size == 256 else [1]: take(name, size, None, threads, n=max(1, repeats//max(1, size//256)))
    for name in ('encode', 'paint'): take(name, min(256, max(sizes)), batch=4, n=max(1, repeats//3))
    take('grid', min(sizes), ('2d49569', 'float32', 'auto'), n=max(1, repeats//3))
    take('parse', min(256, max(sizes)), ('2d49569', 'auto'))
    take('learn_to_parse', min(128, max(sizes)), ('2d49569', 'float32', 'auto'), n=max(1, repeats//2))
    take('spade', min(256, max(sizes)), ('plain', 'float32', 'auto'))
    for name in ('published_spade', 'published_paint') if max(sizes) >= 256 else ():
        take(name, 256, ('plain', 'float32', 'auto'), n=max(1, repeats//3))
    maps = [s for s in (32, 64, 128, 256, 512) if s <= 2*max(sizes)]
    for kind in ('attention', 'attention_backward'):
        for side in maps: take(kind, side, ('plain',))
        for side in [s for s in maps if s <= min(128, max(sizes))]: take(f'dense_{kind}', side, ('plain',), n=max(1, repeats//2))
    for worker in workers.values(): worker.close()
    rows = lambda kind: [(int(k.split(', ')[1]), r['plain']) for k, r in jobs.items() if k.split(', ')[0] == kind]
    told = {kind: dict(exponent=exponent(rows(kind)), dense_over_ours={s: round(d['cpu']/dict(rows(kind))[s]['cpu'], 1) for s, d in rows(f'dense_{kind}')})
            for kind in ('attention', 'attention_backward')}
    large = max(sizes) >= 256
    found = dict(jobs=jobs, attention=told, processes=processes(sources, max(1, repeats//2), folder))  # before this process has torch: theirs begin with its peak
    if large and sys.platform == 'linux': found['processes'] |= app(sources, max(1, repeats//3), folder)
    found['attention']['limit'], found['gflop_256'] = attention_limit(min(128, max(sizes))), work(large)
    if not large: return found
    if old: found['training'] = report_of('training_iteration', folder, '--rounds', '1')
    return found | dict(loader=report_of('loader', folder, '--photos', '48'))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--out', type=Path, required=True)
    ap.add_argument('--sizes', type=int, nargs='+', default=[128, 256, 512, 1024])
    ap.add_argument('--repeats', type=int, default=7)
    ap.add_argument('--only', choices=['processes', 'app'], help='how long `msca synth`, `Synthesizer.load()` and `import torch` take, or `msca app` until its '
                    'first picture (Linux), nothing else')
    a = ap.parse_args()
    a.out.parent.mkdir(parents=True, exist_ok=True)
    beside, start = busy_cores(), time.time()
    with tempfile.TemporaryDirectory() as folder: found = measure(a.sizes, a.repeats, folder, beside, a.only)
    import torch
    command = f"python benchmarks/bench.py --out results/{a.out.name} --sizes {' '.join(map(str, a.sizes))} --repeats {a.repeats}"
    about = dict(command=command+(f' --only {a.only}' if a.only else ''), seed=0,
                 data='random ids in squares, random pixels', date=time.strftime('%Y-%m-%d'), minutes=round((time.time()-start)/60, 1), torch=torch.__version__,
                 cpu=torch.backends.cpu.get_cpu_capability(), machine=platform.machine(), cores=os.cpu_count(),
                 cores_busy_beside=round(beside, 1), unit='seconds, MB, GFLOP')
    a.out.write_text(json.dumps(dict(made_by=about, **found), indent=1)+'\n')
    if not a.only: draw(found, a.out.parent)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--serve']:
        FORM, PRECISION = sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
        serve()
    else: main()
