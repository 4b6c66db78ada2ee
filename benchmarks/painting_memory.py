"""What `msca synth` takes of memory: over many pictures of varying size, and for large ones.

    python benchmarks/painting_memory.py --pictures 400 --out results/painting_memory.json

Every process is watched from outside (Linux). Many pictures: layouts and photos with sides of 48 to 159 pixels at random, every photo parsed; the
memory is read whenever 50 more pictures are written, and a last time when the process ends, where torch's own end adds some 100 MB. With
`--commit` an earlier state of the source paints them as well. Large pictures: one square layout a process, in the style of a photo of
256×256, in turns; seconds are those of the processor, without those of a picture of 64×64.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import earlier_source, environment

ROOT = Path(__file__).resolve().parents[1]
MANY = ['synth', '--layout', 'layouts', '--exemplar', 'photos', '--pair', 'zip', '--size', '0', '--exemplar-size', '0']


def inputs(folder, n, seed=0):
    "Layouts and photos of varying size."
    import numpy as np
    from PIL import Image
    rng = np.random.default_rng(seed)
    for name in ('layouts', 'photos'): (folder/name).mkdir()
    for i in range(n):
        h, w = rng.integers(48, 160, 2)
        ids = np.kron(rng.integers(0, 17, (h//16+1, w//16+1), dtype=np.uint8), np.ones((16, 16), np.uint8))[:h, :w]
        Image.fromarray(ids).save(folder/'layouts'/f'{i:04}.png')
        h, w = rng.integers(48, 160, 2)
        Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)).save(folder/'photos'/f'{i:04}.png')


def memory(pid):
    "(now, at most until now) in MB, of a process."
    told = dict(line.split(':', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines())
    return [round(int(told[k].split()[0])/1024) for k in ('VmRSS', 'VmHWM')]


def many(folder, n, source, out, every=50):
    "Memory whenever `every` more pictures are written."
    process = subprocess.Popen([sys.executable, '-m', 'msca', *MANY, '--device', 'cpu', '--out', out], cwd=folder, env=environment(source), stdout=subprocess.DEVNULL)
    steps, (now, most) = [], (0, 0)
    while process.poll() is None:
        try: now, most = memory(process.pid)
        except (OSError, KeyError): pass  # it has just ended
        written = len(list((folder/out).glob('[0-9]*.png')))
        if written >= every*(len(steps)+1) and written < n: steps.append(dict(pictures=written, mb=now, peak_mb=most))
        time.sleep(.05)
    if process.returncode: raise RuntimeError(f'msca synth ended with {process.returncode}')
    written = len(list((folder/out).glob('[0-9]*.png')))
    assert written == n, (written, n)
    return [*steps, dict(pictures=n, mb=now, peak_mb=most)]


def large(folder, sizes, repeats):
    "Peak memory and processor seconds of square pictures."
    import numpy as np
    from PIL import Image
    rng, rows = np.random.default_rng(0), {s: [] for s in (64, *sizes)}
    Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(folder/'photo.png')
    for s in rows: Image.fromarray(np.kron(rng.integers(0, 17, (s//32, s//32), dtype=np.uint8), np.ones((32, 32), np.uint8))).save(folder/f'{s}.png')
    for _ in range(repeats):
        for s in rows:
            command = [sys.executable, '-m', 'msca', 'synth', f'{s}.png', 'photo.png', '--size', '0', '--device', 'cpu', '--out', f'painted-{s}.png']
            process = subprocess.Popen(command, cwd=folder, env=environment(ROOT), stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode: raise RuntimeError(f'{command} failed')
            assert Image.open(folder/f'painted-{s}.png').size == (s, s)
            rows[s].append((used.ru_utime+used.ru_stime, used.ru_maxrss/1024))
    seconds = {s: statistics.median(t for t, _ in r) for s, r in rows.items()}
    return {f'{s}×{s}': dict(peak_mb=round(max(m for _, m in rows[s])), seconds=round(seconds[s]-seconds[64], 2),
                             seconds_per_million_pixels=round((seconds[s]-seconds[64])/s**2*1e6, 2)) for s in sizes}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--pictures', type=int, default=400)
    p.add_argument('--every', type=int, default=50, help='pictures between two readings')
    p.add_argument('--commit', help='an earlier state of the source to compare with')
    p.add_argument('--sizes', type=int, nargs='*', default=[512, 1024, 2048], help='of large pictures')
    p.add_argument('--repeats', type=int, default=1)
    p.add_argument('--out', metavar='FILE', default='results/painting_memory.json')
    a = p.parse_args()
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        inputs(here, a.pictures)
        sources = {'now': ROOT} | ({a.commit: earlier_source(here/'earlier', a.commit)} if a.commit else {})
        if None in sources.values(): p.error(f'git does not have the commit {a.commit}')
        found = {}
        for name, source in sources.items():
            found[name] = many(here, a.pictures, source, f'painted-{name}', a.every)
            print(name, found[name], flush=True)
        big = large(here, a.sizes, a.repeats)
    print(big)
    given = ''.join(f' {x}' for x in sys.argv[1:])
    about = dict(command=f'python benchmarks/painting_memory.py{given}', seed=0, data='random ids in squares, random pixels; scenes-256', minutes=round((time.time()-start)/60, 1),
                 cores=os.cpu_count(), threads=1, programs_that_ran_beside=round(os.getloadavg()[0], 1))
    Path(a.out).write_text(json.dumps(dict(made_by=about, many=found, large=big), indent=1, ensure_ascii=False)+'\n')


if __name__ == '__main__': main()
