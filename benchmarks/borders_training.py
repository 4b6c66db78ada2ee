"""A small training of the synthesizer with a plain painter and with one that stays within borders, on drawn scenes.

    python benchmarks/borders_training.py --updates 300 --out results/borders-training.json

Both take turns, update by update, on the same batches: 4 scenes of 64×64 in widths of a sixth of the compact size, mean absolute error alone (no
discriminator), half of the time from the scene itself and half from another picture of the same style. Held out are 24 scenes that nobody has
trained on, each painted from a picture of its style. A picture is written beside the numbers. `share` is how much of the color beyond a border
is on this side of it, in the scenes where both pictures and the truth have borders between classes of different colors.
"""
import argparse
import json
from dataclasses import replace
from pathlib import Path

import norms
import numpy as np
import torch

from msca.data.scene import tensor_to_image
from msca.evidence.borders import border_bleed, neighbor_share
from msca.relatives.layers import LayeredSynthesizer, LayersConfig

norms.SIDE = 64


def shares_of(pictures, layouts):
    "One neighbor share a picture."
    return np.array([neighbor_share(tensor_to_image(a), c.argmax(0).byte().numpy()) for a, c in zip(pictures, layouts)])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--updates', type=int, default=300)
    p.add_argument('--scenes', type=int, default=96, help='to learn from')
    p.add_argument('--out', default='results/borders-training.json')
    args = p.parse_args()
    torch.set_num_threads(1)
    config = LayersConfig(norms.S, pyramid_widths=(8, 12, 16, 24, 24), image_channels=(8, 12, 16, 16, 16), label_channels=(8,)*5, slots=(4,)*5, mlp_width=16,
                               widths=(12, 16, 24, 32, 32), spade_hidden=(12, 12, 16, 16, 16), padding='replicate', upsampling='bilinear')
    models = {}
    for name, borders in (('plain', 'none'), ('within borders', 'class')):
        torch.manual_seed(0)
        models[name] = LayeredSynthesizer(replace(config, borders=borders)).train()
    seconds, _ = norms.train_alike(models, args.scenes, args.updates)
    layout, truth, other_layout, other = norms.draw(range(10_000, 10_024))
    rows, painted, each, shares = {}, [], {}, dict(truth=shares_of(truth, layout))
    for name, model in models.items():
        model.eval()
        with torch.inference_mode(): picture = model(layout, other, other_layout)
        painted.append(list(picture[:6]))
        found = [border_bleed(tensor_to_image(a), tensor_to_image(b), c.argmax(0).byte().numpy()) for a, b, c in zip(picture, truth, layout)]
        each[name] = np.array([f.bleed for f in found])
        shares[name] = shares_of(picture, layout)
        rows[name] = dict(bleed=round(float(np.nanmean(each[name])), 3), picture=round(float(np.nanmean([f.picture for f in found])), 3),
                          truth=round(float(np.nanmean([f.truth for f in found])), 3), held_out_l1=round(float((picture-truth).abs().mean())*127.5, 2),
                          parameters=sum(p.numel() for p in model.parameters()))
    have = np.isfinite(list(shares.values())).all(0)
    for name in models: rows[name] |= dict(share=round(float(shares[name][have].mean()), 3), share_in_truth=round(float(shares['truth'][have].mean()), 3))
    ratio = float(np.median(np.array(seconds['within borders'])/np.array(seconds['plain'])))
    norms.sheet([list(other[:6]), list(truth[:6]), *painted], ('exemplar', 'truth', 'plain', 'borders')).save(Path(args.out).with_suffix('.png'))
    report = dict(command=f'python benchmarks/borders_training.py --updates {args.updates} --scenes {args.scenes}', seed=0, size=norms.SIDE, batch=4,
                  data='drawn scenes, 24 held out; exemplars are other layouts in the same style', models=rows, time_ratio_of_an_update=round(ratio, 2),
                  lower_bleed_in=f"{int((each['within borders'] < each['plain']).sum())} of {len(layout)}",
                  lower_share_in=f"{int((shares['within borders'] < shares['plain'])[have].sum())} of {int(have.sum())}",
                  share_below_truth_in={n: f"{int((shares[n] < shares['truth'])[have].sum())} of {int(have.sum())}" for n in models})
    Path(args.out).write_text(json.dumps(report, indent=1) + '\n')
    print(json.dumps(report, indent=1))


if __name__ == '__main__': main()
