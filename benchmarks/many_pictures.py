"""Many pictures: one call of `msca synth` beside a shell's loop over calls and a program's loop over pictures, in turns.

    python benchmarks/many_pictures.py --pictures 12 --rounds 5 --out results/many_pictures.json

All three paint the same layouts, each in the style of two photos, with the same model, into files. Compared are medians of ratios within a round, of
seconds by the clock and of the processor; the machine may do other things too.
"""
import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

LOOP = '''
import sys
from msca import Synthesizer
from msca.base.files import save_image
model, n = sys.argv[1], int(sys.argv[2])
s = Synthesizer.load(model, 'cpu')
for i in range(n): save_image(s(f'layouts/{i//2}.png', f'photo{i%2}.png'), f'{sys.argv[3]}/{i}.png')
'''


def took(commands, folder):
    "Seconds by the clock and of the processor that commands take, one after another."
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for command in commands:
        subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter()-start, after.ru_utime+after.ru_stime-before.ru_utime-before.ru_stime


def ways(n, model, out):
    "Commands by name."
    options = ['--model', model, '--device', 'cpu']
    return {
        'one call': [['-m', 'msca', 'synth', '--layout', 'layouts', '--exemplar', 'photo0.png', 'photo1.png', '--pair', 'all', *options, '--out', out]],
        'a call for every picture': [['-m', 'msca', 'synth', f'layouts/{i//2}.png', f'photo{i%2}.png', *options, '--out', f'{out}/{i}.png'] for i in range(n)],
        'a loop in Python': [['-c', LOOP, model, str(n), out]]}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--pictures', type=int, default=12, help='an even number')
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--model', default='scenes-128')
    p.add_argument('--out', metavar='FILE', default='results/many_pictures.json')
    a = p.parse_args()
    from msca.data.photographs import example_photo
    from msca.data.render import procedural_scene
    from msca.data.scene import indexed_image
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here/'layouts').mkdir()
        for i in range(a.pictures//2):
            scene = procedural_scene(i, 256)
            indexed_image(scene.labels, scene.label_set).save(here/'layouts'/f'{i}.png')
        for k, name in enumerate(('sunset', 'stream')): example_photo(name).save(here/f'photo{k}.png')
        for r in range(-1, a.rounds):  # the first to warm up
            names = list(ways(a.pictures, a.model, ''))
            for k in random.Random(r).sample(range(len(names)), len(names)):
                out = here/f'{k}-{r}'
                seconds = took(ways(a.pictures, a.model, out.name)[names[k]], here)
                assert len(list(out.glob('*.png'))) == a.pictures
                if r >= 0: found.setdefault(names[k], []).append(seconds)
    told = {}
    for k, what in enumerate(('clock', 'processor')):
        per = {name: [s[k] for s in rounds] for name, rounds in found.items()}
        ratio = {name: statistics.median(x/y for x, y in zip(per['one call'], per[name])) for name in per}
        told[what] = {name: dict(seconds=round(statistics.median(per[name]), 2), one_call_takes=round(ratio[name], 3)) for name in per}
    about = dict(command=f'python benchmarks/many_pictures.py --pictures {a.pictures} --rounds {a.rounds} --model {a.model} --out {a.out}', pictures=a.pictures,
                 rounds=a.rounds, model=a.model, threads=os.environ.get('OMP_NUM_THREADS', 'all'), processors=os.cpu_count())
    Path(a.out).write_text(json.dumps(about | told, indent=1)+'\n')
    print(json.dumps(told, indent=1))


if __name__ == '__main__': main()
