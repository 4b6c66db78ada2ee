"""Keep what a series of `msca reproduce table1` found, without its models: `python benchmarks/collect_table1.py SERIES results/table1-NAME --command "msca reproduce …"`.

Copies tables and plots, writes `pictures.jpg`, and puts the held-out error of every training (with its photo's own exemplar and with another's)
into `curves.json`, with the entropies of the attentions at its end.
"""
import argparse
import json
import math
import shutil
from pathlib import Path

from PIL import Image

from msca.base.files import write_whole
from msca.learning.history import read_history
from msca.model.checkpoint import load_synthesizer

WIDTH = 720  # of pictures.jpg: no photo in it is wider than 96 pixels
COPIED = 'table1.md', 'table1.json', 'table.md', 'comparison.json', 'differences.png'
OF_COCO = 'steps.json', 'estimate.json'  # what `msca reproduce coco-stuff` keeps beside
HELD_OUT = 'held_out_l1', 'held_out_l1_other'


def curve(folder):
    "(phase, iteration, error with the right exemplar, with another's) at every sample of a training."
    return [[r['phase'], r['iteration'], *(round(r[k], 4) for k in HELD_OUT)] for r in read_history(folder) if HELD_OUT[0] in r]


def entropies(folder):
    "Entropies of both attentions at the last sample of a training, as shares of their largest possible values, per scale; None where there is no attention."
    row = [r for r in read_history(folder) if HELD_OUT[0] in r][-1]
    if row.get('entropy_alpha_0') is None: return None
    model, _, about = load_synthesizer(folder)
    most = [math.log((about['size'] >> i)**2) for i in range(5)], [math.log(k) if k > 1 else 1. for k in (m.n_slots for m in model.attention)]
    return {part: [round(row[f'entropy_{part}_{i}']/m[i], 3) for i in range(5)] for part, m in zip(('alpha', 'beta'), most)}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('series', type=Path)
    ap.add_argument('out', type=Path)
    ap.add_argument('--command', required=True, help='with which the series was made')
    a = ap.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    for name in (*COPIED, *(n for n in OF_COCO if (a.series/n).exists())): shutil.copy(a.series/name, a.out/name)
    told = json.loads((a.out/'table1.json').read_text(encoding='utf-8'))
    told['plan']['recipe'] |= {k: Path(v).name for k, v in told['plan']['recipe'].items() if k.endswith('_weights') and v}  # wherever they lay
    with write_whole(a.out/'table1.json') as part: part.write_text(json.dumps(told, indent=1)+'\n', encoding='utf-8')
    sheet = Image.open(a.series/'pictures.png').convert('RGB')
    with write_whole(a.out/'pictures.jpg') as part: sheet.resize((WIDTH, round(sheet.height*WIDTH/sheet.width)), Image.Resampling.LANCZOS).save(part, 'JPEG', quality=72)
    curves = {p.parent.name: curve(p.parent) for p in sorted(a.series.glob('models/*/trained.json'))}
    attention = {name: e for name in curves if (e := entropies(a.series/'models'/name))}
    with write_whole(a.out/'curves.json') as part:
        part.write_text(json.dumps(dict(command=a.command, columns=['phase', 'iteration', *HELD_OUT], models=curves, entropies=attention))+'\n', encoding='utf-8')


if __name__ == '__main__': main()
