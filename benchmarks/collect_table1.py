"""Keep what a series of `msca reproduce table1` found, without its models: `python benchmarks/collect_table1.py SERIES results/table1-NAME --command "msca reproduce …"`.

Copies tables and plots, writes `pictures.jpg`, and puts the held-out error of every training (with its photo's own exemplar and with another's) into `curves.json`.
"""
import argparse
import json
import shutil
from pathlib import Path

from PIL import Image

from msca.history import read_history
from msca.scene import save_image, write_whole

COPIED = 'table1.md', 'table1.json', 'table.md', 'comparison.json', 'differences.png'
HELD_OUT = 'held_out_l1', 'held_out_l1_other'


def curve(folder):
    "(phase, iteration, error with the right exemplar, with another's) at every sample of a training."
    return [[r['phase'], r['iteration'], *(round(r[k], 4) for k in HELD_OUT)] for r in read_history(folder) if HELD_OUT[0] in r]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('series', type=Path)
    ap.add_argument('out', type=Path)
    ap.add_argument('--command', required=True, help='with which the series was made')
    a = ap.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    for name in COPIED: shutil.copy(a.series/name, a.out/name)
    save_image(Image.open(a.series/'pictures.png').convert('RGB'), a.out/'pictures.jpg')
    curves = {p.parent.name: curve(p.parent) for p in sorted(a.series.glob('models/*/trained.json'))}
    with write_whole(a.out/'curves.json') as part:
        part.write_text(json.dumps(dict(command=a.command, columns=['phase', 'iteration', *HELD_OUT], models=curves))+'\n', encoding='utf-8')


if __name__ == '__main__': main()
