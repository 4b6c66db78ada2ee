"""How far colors run over borders in pictures of the shipped model, as it is and with a painter that stays within borders.

    MSCA_DATA=… python benchmarks/borders.py --out results/borders.json

50 held-out photos (30 of SIFT Flow, 20 of LabelMe Facade, from the list in results/held_out.json), each painted at 256×256 from its own label map
and itself. `share` is how much of the color beyond a border is on this side of it, averaged over the photos in which the photo and every
painter's picture have borders between classes of different colors. The second painter has the shipped weights; nothing was trained for it. Its
three forms show what each layer does: convolutions alone, up-sampling alone, both. All of them paint every photo in turn. Times are of the
whole picture, its exemplar read anew.
"""
import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from msca import SCENE_LABELS, Synthesizer
from msca.base.labels import one_hot
from msca.data.lookalikes import fit_scene
from msca.data.published import open_dataset
from msca.data.scene import image_to_tensor, tensor_to_image
from msca.evidence.borders import border_bleed, neighbor_share
from msca.relatives import borders
from msca.relatives.borders import ids_at_scales
from msca.relatives.layers import with_borders

ROOT, NUMBERS = Path(__file__).parents[1], dict(siftflow=30, labelmefacade=20)


def photos(data):
    "The first photos on the list of each set, as scenes of 256×256."
    chosen = json.loads((ROOT/'results'/'held_out.json').read_text())['sets']
    for name, n in NUMBERS.items():
        source = open_dataset(Path(data)/name, None, SCENE_LABELS)
        for photo in sorted(chosen[name])[:n]: yield fit_scene(source[source.names.index(photo)], 256)


def painters(model):
    "name → function (one-hot labels, photo) → picture."
    bordered = with_borders(model)
    upsample = borders.border_upsample

    def convolutions(onehot, x):
        def plain(x, coarse, fine, fill, mode='nearest'): return F.interpolate(x, scale_factor=2, mode=mode)
        borders.border_upsample = plain
        try: return bordered(onehot, x, onehot)
        finally: borders.border_upsample = upsample

    def upsampling(onehot, x):
        conditions, _ = model.transfer(onehot, x, onehot)
        ids, painter = ids_at_scales(onehot.argmax(1, keepdim=True)), model.generator
        if painter.noise: conditions = painter._with_noise(conditions, None)
        h = painter.start(conditions[-1][:, :painter.start.in_channels])
        for i in reversed(range(5)):
            h = painter.blocks[i](h, conditions[i])
            if i: h = upsample(h, ids[i], ids[i-1], F.interpolate(h, scale_factor=2, mode=painter.upsampling), painter.upsampling)
        return torch.tanh(painter.end(F.leaky_relu(h, .2)))
    return {'as shipped': lambda c, x: model(c, x, c), 'within borders': lambda c, x: bordered(c, x, c), 'convolutions only': convolutions, 'up-sampling only': upsampling}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', default='results/borders.json')
    p.add_argument('--ways', nargs='+', help='only these painters, the shipped one among them (default: all four)')
    p.add_argument('--pictures', help='a folder for the pictures of the first photos')
    args = p.parse_args()
    s = Synthesizer.load(device='cpu', quiet=True)
    ways, rows, seconds = painters(s.model.eval()), {}, {}
    ways = {w: ways[w] for w in args.ways or ways}
    for n, scene in enumerate(photos(os.environ['MSCA_DATA'])):
        onehot, x = one_hot(torch.from_numpy(scene.labels)[None], len(SCENE_LABELS)), image_to_tensor(scene.image)[None]
        for way, paint in ways.items():
            start = time.perf_counter()
            with torch.inference_mode(): picture = paint(onehot, x)[0]
            seconds.setdefault(way, []).append(time.perf_counter()-start)
            found = border_bleed(tensor_to_image(picture), scene.image, scene.labels)
            psnr = float(10*torch.log10(4/(picture-x[0]).square().mean()))
            shares = [neighbor_share(a, scene.labels) for a in (tensor_to_image(picture), scene.image)]
            rows.setdefault(way, []).append(dict(name=scene.name, bleed=found.bleed, picture=found.picture, truth=found.truth, share=shares[0],
                                                 share_in_photo=shares[1], psnr=psnr))
            if args.pictures and n % 10 == 0:
                tensor_to_image(picture).save(f'{args.pictures}/{n}_{way.replace(" ", "_")}.png')
                scene.image.save(f'{args.pictures}/{n}_photo.png')
    have = np.isfinite([[r[k] for r in found] for found in rows.values() for k in ('share', 'share_in_photo')]).all(0)
    means = {way: {k: round(float(np.nanmean([r[k] for r in found])), 3) for k in ('bleed', 'picture', 'truth', 'psnr')} for way, found in rows.items()}
    for way, found in rows.items(): means[way] |= {k: round(float(np.array([r[k] for r in found])[have].mean()), 3) for k in ('share', 'share_in_photo')}
    times = {w: round(float(np.median(np.array(t)/np.array(seconds['as shipped']))), 2) for w, t in seconds.items()}
    given = f' --ways {" ".join(map(repr, args.ways))}' if args.ways else ''
    finite = {w: [{k: None if v != v else v for k, v in r.items()} for r in found] for w, found in rows.items()}  # photos of one class have no border
    report = dict(command=f'python benchmarks/borders.py{given}', model=s.name, data='50 held-out photos: 30 siftflow, 20 labelmefacade', size=256, width=3,
                  threads=torch.get_num_threads(), means=means, time_over_as_shipped=times,
                  photos_with_borders=sum(r['bleed'] is not None for r in finite['as shipped']), photos_with_shares=int(have.sum()), photos=finite)
    Path(args.out).write_text(json.dumps(report, indent=1) + '\n')
    print(json.dumps({k: v for k, v in report.items() if k != 'photos'}, indent=1))


if __name__ == '__main__': main()
