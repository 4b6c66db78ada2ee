"""What `msca app` takes of memory, alone and for every page that is open.

    python benchmarks/app_memory.py --visits 3 --before CHECKOUT --out results/app.json

Starts the app, opens pages as a browser does, and reads the memory of every process that it started (Linux: USS is what a process has for
itself, PSS adds its share of what it has together with others). With `--before` an earlier checkout is measured in the same way, in turns.
"""
import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20


def kind_of(process):
    "server, model or page: what a process of the app is."
    command = ' '.join(process.cmdline())
    return 'page' if 'ipykernel' in command else 'server' if 'voila' in command else 'model'


def memory(top):
    "kind → list of dict(uss, pss) in MiB, of the processes below the command."
    out = {}
    for p in psutil.Process(top).children(recursive=True):
        m = p.memory_full_info()
        out.setdefault(kind_of(p), []).append(dict(uss=m.uss/MIB, pss=m.pss/MIB))
    return out


def settled(top, seconds=3):
    "Memory when it has stopped growing."
    last = None
    while True:
        time.sleep(seconds)
        now = memory(top)
        total = sum(m['uss'] for found in now.values() for m in found)
        if last is not None and abs(total-last) < 2: return now
        last = total


def measure(checkout, visits):
    "Memory of the app of a checkout, with 0, 1, … visits, and how long each page took."
    environment = {**os.environ, 'PYTHONPATH': str(checkout)}
    app = subprocess.Popen([sys.executable, '-m', 'msca', 'app', '--port', '0', '--no-browser'], cwd=checkout, env=environment,
                           stdout=subprocess.PIPE, text=True)
    try:
        address, steps = app.stdout.readline().split()[0], []
        for n in range(visits+1):
            start = time.perf_counter()
            if n: urllib.request.urlopen(address, timeout=300).read()
            took = time.perf_counter()-start
            steps.append(dict(visits=n, seconds=round(took, 2) if n else None, processes={
                kind: [{k: round(v, 1) for k, v in m.items()} for m in found] for kind, found in settled(app.pid).items()}))
        return steps
    finally:
        app.terminate()
        app.wait(60)


def total(step): return sum(m['pss'] for found in step['processes'].values() for m in found)


def summary(steps):
    "What a visit adds to the whole, and what it has for itself, in MiB."
    last = steps[-1]
    own = [m['uss'] for m in last['processes']['page']]
    return dict(first_picture_mib=round(total(steps[1]), 1), each_further_visit_mib=round((total(last)-total(steps[1]))/(len(steps)-2), 1),
                page_uss_mib=round(sum(own)/len(own), 1), seconds=[s['seconds'] for s in steps[1:]])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--visits', type=int, default=3)
    p.add_argument('--before', metavar='CHECKOUT', help='an earlier checkout to compare with')
    p.add_argument('--out', metavar='FILE', default='results/app.json')
    args = p.parse_args()
    measured = {name: measure(Path(root).resolve(), args.visits) for name, root in (('before', args.before), ('now', ROOT)) if root}
    report = dict(command=f'python benchmarks/app_memory.py --visits {args.visits}' + (' --before CHECKOUT' if args.before else ''),
                  cores=os.cpu_count(), units='MiB', summary={name: summary(steps) for name, steps in measured.items()}, steps=measured)
    if args.before:
        report['before_commit'] = subprocess.run(['git', '-C', args.before, 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True).stdout.strip()
        report['share_of_before'] = {k: round(report['summary']['now'][k]/report['summary']['before'][k], 3)
                                     for k in ('each_further_visit_mib', 'page_uss_mib')}
    Path(args.out).write_text(json.dumps(report, indent=1) + '\n')
    print(json.dumps({k: v for k, v in report.items() if k != 'steps'}, indent=1))


if __name__ == '__main__': main()
