"""Peak memory of panoramas of growing width, each painted in a process of its own.

    OMP_NUM_THREADS=1 python benchmarks/panorama_memory.py            # writes results/panorama_memory.json

`peak_mib` is what the operating system reports for the whole process (ru_maxrss). `above_start_mib` leaves out Python, torch, the
model's weights and the first small pass. It is measured in a second process, in which the C library hands freed blocks back at once
(MALLOC_MMAP_THRESHOLD_, glibc): otherwise it keeps a varying amount of what was freed, and one measures its habits. For comparison,
the same layouts in one pass.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = [(512, 'tiles'), (2048, 'tiles'), (8192, 'tiles'), (512, 'one pass'), (2048, 'one pass')]


# The parent stays small: a child's ru_maxrss starts at what its parent held.
def peak_mib(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/(1024 if sys.platform != 'darwin' else 1024**2)


def paint_one(width, way, height, model):
    "Paint one panorama in this process and say what it took."
    import numpy as np

    from msca.data.render import procedural_scene
    from msca.pretrained.synthesizer import Synthesizer
    from msca.steering.extrapolation import panorama
    s = Synthesizer.load(model, device='cpu', quiet=True)
    styles = s.encode(procedural_scene(3, s.size)).scales
    ids = np.random.default_rng(0).integers(0, len(s.label_set), (height//16, width//16), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    panorama(s.model, ids[:, :32], [styles])
    start = peak_mib()
    panorama(s.model, ids, [styles], side=256 if way == 'tiles' else width)
    return dict(width=width, way=way, peak_mib=round(peak_mib()), above_start_mib=round(peak_mib()-start))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default='scenes-128', help='shipped model or checkpoint folder')
    parser.add_argument('--height', type=int, default=256)
    parser.add_argument('--only', metavar='WIDTH,WAY', help='paint this one here and print the result')
    parser.add_argument('--out', default=ROOT/'results'/'panorama_memory.json', type=Path)
    args = parser.parse_args()
    if args.only: return print(json.dumps(paint_one(int(args.only.split(',')[0]), args.only.split(',')[1], args.height, args.model)))
    runs = []
    for width, way in RUNS:
        command = [sys.executable, __file__, '--only', f'{width},{way}', '--height', str(args.height), '--model', args.model]
        child = lambda env: json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **env}).stdout)
        runs.append({**child({}), 'above_start_mib': child({'MALLOC_MMAP_THRESHOLD_': '262144'})['above_start_mib']})
        print(runs[-1], flush=True)
    report = dict(command='OMP_NUM_THREADS=1 python benchmarks/panorama_memory.py', model=args.model,
                  height=args.height, tile=256, margin=144, runs=runs)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1)+'\n')


if __name__ == '__main__': main()
