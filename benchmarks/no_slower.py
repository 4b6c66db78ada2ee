"""Whether checks cost time: `msca synth` of an earlier commit and of now, in turns, in seconds of the processor.

    python benchmarks/no_slower.py --commit 2d49569 --rounds 12 --out results/no_slower.json

The earlier commit is laid down in a temporary folder. Both paint the same layout in the style of the same photo with the same model; what is
compared is the median of the paired ratios, as a machine that does other things too is slow now and then.
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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def lay_down(commit, folder):
    "The files of a commit in a folder."
    archive = subprocess.run(['git', '-C', str(ROOT), 'archive', commit, 'msca', 'settings.ini'], capture_output=True, check=True).stdout
    subprocess.run(['tar', '-x', '-C', str(folder)], input=archive, check=True)


def processor_seconds(checkout, command, folder):
    "What one call takes."
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, '-m', 'msca', *command], cwd=folder, check=True, capture_output=True, env={**os.environ, 'PYTHONPATH': str(checkout)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime+after.ru_stime-before.ru_utime-before.ru_stime


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--commit', default='2d49569')
    p.add_argument('--rounds', type=int, default=12)
    p.add_argument('--model', default='procedural-128')
    p.add_argument('--out', metavar='FILE', default='results/no_slower.json')
    args = p.parse_args()
    from msca.commands.picture import demo_inputs
    from msca.data.photographs import example_photo
    from msca.data.scene import indexed_image
    with tempfile.TemporaryDirectory() as folder:
        old, here = Path(folder)/'old', Path(folder)
        old.mkdir()
        lay_down(args.commit, old)
        coast = demo_inputs()[0]['coast']
        indexed_image(coast.labels, coast.label_set).save(here/'layout.png')
        example_photo('sunset').save(here/'photo.png')
        command = ['synth', '--layout', 'layout.png', '--exemplar', 'photo.png', '--out', 'out.png', '--model', args.model, '--device', 'cpu']
        sides, took = dict(before=old, now=ROOT), dict(before=[], now=[])
        for checkout in sides.values(): processor_seconds(checkout, command, here)  # to warm up
        for i in range(args.rounds):
            for name in random.Random(i).sample(list(sides), 2): took[name].append(processor_seconds(sides[name], command, here))
    ratios = sorted(n/b for n, b in zip(took['now'], took['before']))
    draws = random.Random(0)
    medians = sorted(statistics.median(draws.choices(ratios, k=len(ratios))) for _ in range(2000))
    report = dict(command=f'python benchmarks/no_slower.py --commit {args.commit} --rounds {args.rounds}', measured='msca ' + ' '.join(command),
                  unit='seconds of the processor', ratio=round(statistics.median(ratios), 4), interval_95=[round(medians[50], 4), round(medians[-51], 4)],
                  fastest_ratio=round(min(took['now'])/min(took['before']), 4), seconds={k: [round(v, 3) for v in found] for k, found in took.items()})
    Path(args.out).write_text(json.dumps(report, indent=1)+'\n')
    print({k: report[k] for k in ('ratio', 'interval_95', 'fastest_ratio')})


if __name__ == '__main__': main()
