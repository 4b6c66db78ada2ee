"""A small training of the synthesizer with each of five norms under SPADE, on drawn scenes.

    python benchmarks/norms.py --updates 400 --out results/norms.json

All five take turns, update by update, on the same batches: 4 scenes of 48×48 in widths of a sixth of the compact size, mean absolute error alone
(no discriminator), half of the time from the scene itself and half from another picture of the same style. Held out are 16 scenes that nobody has
trained on. Written beside the numbers: a picture with one row a norm.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from msca.base.labels import one_hot
from msca.data.layouts import procedural_layout
from msca.data.render import render
from msca.data.scene import image_to_tensor
from msca.data.styles import procedural_style
from msca.relatives.layers import LayeredSynthesizer, LayersConfig
from msca.relatives.norms import NORMS

SIDE, S = 48, 17


def draw(numbers):
    "(one-hot layouts, pictures; the same of other layouts in the same styles)."
    def batch(layouts):
        scenes = [render(procedural_layout(a), procedural_style(n), SIDE) for a, n in zip(layouts, numbers)]
        return one_hot(torch.stack([torch.from_numpy(s.labels) for s in scenes]), S), torch.stack([image_to_tensor(s.image) for s in scenes])
    return *batch(numbers), *batch([n+50_000 for n in numbers])


def batch_of(data, rng, n):
    "Four of the scenes."
    chosen = rng.choice(n, 4, replace=False)
    return [t[chosen] for t in data]


def sheet(rows, names):
    "Pictures in rows, with names at the left."
    k = 2*SIDE
    out = Image.new('RGB', (70+len(rows[0])*(k+3), len(rows)*(k+3)), 'white')
    for r, (row, name) in enumerate(zip(rows, names)):
        ImageDraw.Draw(out).text((2, r*(k+3)+k//2-6), name, fill='black')
        for c, t in enumerate(row):
            a = ((t.permute(1, 2, 0).clamp(-1, 1)+1)*127.5).round().byte().numpy()
            out.paste(Image.fromarray(a).resize((k, k), Image.Resampling.NEAREST), (70+c*(k+3), r*(k+3)))
    return out


def train_alike(models, n, updates):
    "All models on the same batches of `n` drawn scenes, one after another at every update; model → seconds and losses of its updates."
    optimizers = {name: torch.optim.Adam(m.parameters(), 2e-3) for name, m in models.items()}
    data, rng = draw(range(n)), np.random.default_rng(0)
    seconds, losses = {name: [] for name in models}, {name: [] for name in models}
    for step in range(updates):
        layout, truth, other_layout, other = batch_of(data, rng, n)
        exemplar = (truth, layout) if step % 2 else (other, other_layout)
        for name, model in models.items():
            start = time.perf_counter()
            loss = (model(layout, *exemplar)-truth).abs().mean()
            optimizers[name].zero_grad()
            (loss+sum(model.regularization().values())).backward()
            optimizers[name].step()
            seconds[name].append(time.perf_counter()-start)
            losses[name].append(float(loss.detach()))
    return seconds, losses


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--updates', type=int, default=400)
    p.add_argument('--scenes', type=int, default=160, help='to learn from')
    p.add_argument('--out', default='results/norms.json')
    args = p.parse_args()
    torch.set_num_threads(1)
    config = dict(pyramid_widths=(8, 12, 16, 24, 24), image_channels=(8, 12, 16, 16, 16), label_channels=(8,)*5, slots=(4,)*5, mlp_width=16,
                  widths=(12, 16, 24, 32, 32), spade_hidden=(12, 12, 16, 16, 16))
    models = {}
    for name in NORMS:
        torch.manual_seed(0)
        models[name] = LayeredSynthesizer(LayersConfig(S, norm=name, **config)).train()
    seconds, losses = train_alike(models, args.scenes, args.updates)
    layout, truth, other_layout, other = draw(range(10_000, 10_016))
    rows, painted = {}, []
    for name, model in models.items():
        model.eval()
        with torch.inference_mode():
            picture, foreign = model(layout, other, other_layout), model(layout, other.roll(1, 0), other_layout.roll(1, 0))
        painted.append([*picture[:5], *foreign[:2]])
        rows[name] = dict(held_out_l1=round(float((picture-truth).abs().mean())*127.5, 2), train_l1=round(float(np.mean(losses[name][-50:]))*127.5, 2),
                          other_exemplar_change=round(float((foreign-picture).abs().mean())*127.5, 2),
                          time_ratio=round(float(np.median(np.array(seconds[name])/np.array(seconds['batch']))), 2))
    sheet([[*other[:5], *other.roll(1, 0)[:2]], [*truth[:5], *truth[:2]], *painted], ('exemplar', 'truth', *NORMS)).save(Path(args.out).with_suffix('.png'))
    report = dict(command=f'python benchmarks/norms.py --updates {args.updates} --scenes {args.scenes}', seed=0, size=SIDE, batch=4,
                  data='drawn scenes, 16 held out; exemplars are other layouts in the same style', norms=rows)
    Path(args.out).write_text(json.dumps(report, indent=1) + '\n')
    print(json.dumps(report, indent=1))


if __name__ == '__main__': main()
