"""What attention pre-training does on real photos: the full model of a series of `msca reproduce table1`, and the same without its pre-training.

    python benchmarks/pretraining.py SERIES --data $MSCA_DATA/siftflow --parser scenes-128 --run RUN --out results/pretraining.json

Photos, batches, their order, seed, schedule and updates of the generator are the same; the second model is trained here, into RUN. Held-out
error with the scene's own exemplar and with another's, and how much
the outputs differ from exemplar to exemplar, at the same numbers of generator updates.
"""
import argparse
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

import torch

from msca.base.labels import SCENE_LABELS
from msca.commands.training import split_scenes
from msca.data.published import open_dataset
from msca.evidence.plan import read_plan
from msca.evidence.series import Materials, model_run, some_photos, usable_photos
from msca.learning.history import read_history
from msca.learning.states import kept_states
from msca.model.segmenter import load_segmenter
from msca.pretrained.models import model_folder
from msca.relatives.ablations import variant_recipe

KEPT = 'phase', 'iteration', 'held_out_l1', 'held_out_l1_other', 'column_spread'


def rows(folder):
    "What a run measured on held-out scenes."
    return [{k: round(r[k], 4) if isinstance(r[k], float) else r[k] for k in KEPT} for r in read_history(folder) if 'held_out_l1' in r]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('series', type=Path)
    ap.add_argument('--data', required=True)
    ap.add_argument('--parser', required=True)
    ap.add_argument('--run', type=Path, required=True)
    ap.add_argument('--out', type=Path, required=True)
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    plan, (train, valid) = read_plan(a.series), split_scenes(open_dataset(a.data, None, SCENE_LABELS))
    materials = usable_photos(plan.config, plan.shape, Materials(train, valid, SCENE_LABELS, load_segmenter(model_folder(a.parser))[0].parse, variant_recipe))
    run = model_run('msca', plan.seeds[0], replace(plan.config, pretrain_epochs=0), plan.shape, some_photos(materials, plan.photos), a.run)
    if kept_states(a.run): run.resume()
    run.run(progress=False)
    with_it = json.loads((a.series/'models'/'msca'/'trained.json').read_text())
    about = dict(command=f'python benchmarks/pretraining.py SERIES --data $MSCA_DATA/{Path(a.data).name} '
                 f'--parser {a.parser} --run RUN --out results/{a.out.name}', date=time.strftime('%Y-%m-%d'),
                 photos=plan.photos, size=plan.config.size, batch_size=plan.config.batch_size, updates=plan.updates, seed=plan.seeds[0], hardware=with_it['device'])
    runs = {'with': dict(seconds=with_it['seconds'], rows=rows(a.series/'models'/'msca')), 'without': dict(seconds=round(run.seconds), rows=rows(a.run))}
    a.out.write_text(json.dumps(dict(made_by=about, runs=runs))+'\n')
    for name, r in runs.items(): print(name, r['seconds'], 's', r['rows'][-1])


if __name__ == '__main__': main()
