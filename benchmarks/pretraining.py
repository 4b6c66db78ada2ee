"""What attention pre-training does on real photos: two trainings of one budget, with and without it.

    python benchmarks/pretraining.py --data $MSCA_DATA/siftflow --out results/pretraining.json

Both go through the same number of iterations on the same photos by the compact recipe, without its warm-up: the discriminator is there from the start,
as in the paper's stage 1. One of them gives a share of its iterations to the attention alone. Held-out error with the right exemplar (the other patch of the photo) and with another photo's,
column spread and entropies, from the runs' own histories.
"""
import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import torch

from msca.history import read_history
from msca.learner import TrainingConfig
from msca.published import open_dataset
from msca.run import TrainingRun
from torch.utils.data import Subset


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--data', required=True)
    ap.add_argument('--out', type=Path, required=True)
    ap.add_argument('--photos', type=int, default=1600, help='of the training side, an even selection')
    ap.add_argument('--epochs', type=int, default=5, help='of each training, pre-training included')
    ap.add_argument('--pretrain-epochs', type=int, default=2)
    ap.add_argument('--seed', type=int, default=0)
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    source = open_dataset(a.data)
    train, valid = source.split('train'), source.split('val')
    train = Subset(train, [i*len(train)//a.photos for i in range(a.photos)])
    result = dict(command=f'python benchmarks/pretraining.py --data $MSCA_DATA/{source.name} --out results/pretraining.json --photos {a.photos} --epochs {a.epochs} '
                          f'--pretrain-epochs {a.pretrain_epochs} --seed {a.seed}', photos=a.photos, size=64, batch_size=16, runs={})
    for name, pretrain in (('without', 0), ('with', a.pretrain_epochs)):
        recipe = TrainingConfig(size=64, pretrain_epochs=pretrain, warmup_epochs=0, epochs=(a.epochs-pretrain, 0), batch_size=16, lr=4e-4, pretrain_lr=2e-3,
                                ema_decay=.99, precision='bfloat16', sample_every=20, checkpoint_every=10**6, seed=a.seed)
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            TrainingRun(folder, train, valid, source.label_set, recipe).run(progress=False)
            rows = [{k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()} for r in read_history(folder) if 'held_out_l1' in r]
        keep = 'phase', 'iteration', 'held_out_l1', 'held_out_l1_other', 'column_spread', 'entropy_alpha_0', 'entropy_beta_0'
        result['runs'][name] = dict(processor_minutes=round((time.process_time()-start)/60, 1), rows=[{k: r[k] for k in keep} for r in rows])
        print(name, result['runs'][name]['rows'][-1], flush=True)
    a.out.write_text(json.dumps(result)+'\n')


if __name__ == '__main__': main()
