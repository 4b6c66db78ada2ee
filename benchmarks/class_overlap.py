"""Does the attention help more where layout and exemplar share fewer classes? From a series of `msca reproduce table1`, without painting anything anew.

    python benchmarks/class_overlap.py SERIES --data $MSCA_DATA/siftflow --n 120 --task retrieving --out results/table1-siftflow/overlap.json
    python benchmarks/class_overlap.py SERIES --procedural 100 --task restyling --out results/table1-procedural/overlap.json

For every question: the share of the layout's labelled pixels whose class covers at least 1 % of the exemplar, and the full model's PSNR minus another model's (mean over seeds).
Reported for thirds of the questions, from few shared classes to many.
"""
import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np

from msca.base.labels import SCENE_LABELS, UNLABELLED
from msca.commands.evidence import question_scenes
from msca.evidence.plan import read_plan
from msca.evidence.report import Report, bootstrap_mean
from msca.evidence.retrieval import build_tasks


def overlap(item, least=.01):
    "Share of the layout's labelled pixels whose class is in the exemplar."
    classes, counts = np.unique(item.exemplar_layout, return_counts=True)
    present = classes[(counts >= least*item.exemplar_layout.size) & (classes != UNLABELLED)]
    return float(np.isin(item.layout[item.layout != UNLABELLED], present).mean())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('series', type=Path)
    ap.add_argument('--data')
    ap.add_argument('--procedural', type=int)
    ap.add_argument('--n', type=int)
    ap.add_argument('--task', choices=['retrieving', 'restyling'], required=True)
    ap.add_argument('--out', type=Path, required=True)
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    plan = read_plan(a.series)
    asked = argparse.Namespace(data=a.data, procedural=a.procedural, format=None, palette=None, side='val', n=a.n, pool=None, exemplar_palette=None)
    scenes, pool, words = question_scenes(asked, SCENE_LABELS, plan.config.size)
    task, = build_tasks((a.task,), scenes, plan.config.size, pool=pool)
    shares = np.array([overlap(task[i]) for i in range(len(task))])
    values = {}
    for name, (model, _) in plan.trainings.items(): values.setdefault(model, []).append(Report(a.series/'reports'/f'{name}.json').values(a.task, 'psnr'))
    values, order, found = {m: np.mean(v, axis=0) for m, v in values.items()}, np.argsort(shares, kind='stable'), []
    for third in np.array_split(order, 3):
        ahead = {m: bootstrap_mean((values[plan.models[0]]-v)[third]) for m, v in values.items() if m != plan.models[0]}
        found.append(dict(questions=len(third), shared=[float(shares[third].min()), float(shares[third].max())], mean_shared=float(shares[third].mean()),
                          ahead_db={m: dict(value=s.value, low=s.low, high=s.high) for m, s in ahead.items()}))
        print({k: v for k, v in found[-1].items() if k != 'ahead_db'}, {m: round(s.value, 2) for m, s in ahead.items()})
    where = f'--data $MSCA_DATA/{Path(a.data).name} --n {a.n}' if a.data else f'--procedural {a.procedural}'
    about = dict(command=f'python benchmarks/class_overlap.py SERIES {where} --task {a.task} --out {a.out.parent.name}/{a.out.name}', date=time.strftime('%Y-%m-%d'), data=words)
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text(json.dumps(dict(made_by=about, task=a.task, thirds=found), indent=1)+'\n')


if __name__ == '__main__': main()
