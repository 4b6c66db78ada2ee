"""Pictures of 1024×1024 by a model trained at 256: in one go, enlarged, or merged from shifted small ones.

    python benchmarks/shift_and_merge.py --scenes 3 12 21 30 --weights squeezenet1_0_torchvision_names.npz --out results/shift-and-merge.json

Scenes are drawn at 1024; each is its own exemplar, read at the model's size. `steps` is the mean difference of neighboring pixels over that
of the truth. Every scene is painted in all ways in turn, so that their times are of one run; they are processor time, of one thread. What is
merged in three ways is painted once, and each merge is timed by itself. The shipped model had squeezenet in its losses.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from msca.data.render import procedural_scene
from msca.data.scene import image_to_tensor
from msca.evidence.perceptual import SqueezeNetTaps, unit_distance
from msca.model.tiles import merge_shifted, paint_in_tiles
from msca.pretrained.synthesizer import Synthesizer

FACTOR, SIDE = 4, 1024


def steps(picture):
    "Mean difference of neighboring pixels."
    return float((picture.diff(dim=1).abs().mean()+picture.diff(dim=2).abs().mean())/2)


def timed(work):
    "What it gives, and the processor seconds it took."
    start = time.process_time()
    result = work()
    return result, time.process_time()-start


def paint(s, scene):
    "way → (picture as a tensor in [-1, 1], processor seconds)."
    style, out = s.encode(scene).scales, {}

    def small(y, x, factor):
        ids = np.ascontiguousarray(scene.labels[y::factor, x::factor])
        return paint_in_tiles(s.painter, ids, ids.shape, style)

    whole, spent = timed(lambda: small(0, 0, 1))
    out['in one go'] = image_to_tensor(whole), spent
    one, spent = timed(lambda: F.interpolate(image_to_tensor(small(2, 2, FACTOR))[None], scale_factor=FACTOR, mode='bicubic', align_corners=False))
    out['enlarged'] = one[0].clamp(-1, 1), spent
    parts, painting = timed(lambda: [[np.asarray(small(y, x, FACTOR)) for x in range(FACTOR)] for y in range(FACTOR)])
    for blur in (1, 2, FACTOR):
        merged, spent = timed(lambda: merge_shifted(parts, blur))
        out[f'shifted and merged, blur {blur}'] = image_to_tensor(merged), painting+spent
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--scenes', nargs='+', type=int, default=[3, 12, 21, 30], help='seeds of drawn scenes')
    p.add_argument('--weights', required=True, help='squeezenet1_0_torchvision_names.npz, SqueezeNet 1.0 under torchvision names')
    p.add_argument('--out', default='results/shift-and-merge.json')
    args = p.parse_args()
    torch.set_num_threads(1)
    s = Synthesizer.load(device='cpu', quiet=True)
    taps = SqueezeNetTaps(args.weights)
    rows = {}
    for seed in args.scenes:
        scene = procedural_scene(seed, SIDE)
        truth = image_to_tensor(scene.image)
        with torch.inference_mode(): wanted = taps(truth[None])
        for way, (picture, seconds) in paint(s, scene).items():
            with torch.inference_mode(): distance = float(unit_distance(taps(picture[None]), wanted))
            psnr = float(10*torch.log10(4/(picture-truth).square().mean()))
            rows.setdefault(way, []).append(dict(psnr=psnr, squeezenet_distance=distance, steps=steps(picture)/steps(truth), processor_seconds=seconds))
    base = np.mean([r['processor_seconds'] for r in rows['in one go']])
    means = {way: {k: round(float(np.mean([r[k] for r in all_])), 3) for k in all_[0] if k != 'processor_seconds'} for way, all_ in rows.items()}
    for way, all_ in rows.items(): means[way]['time_over_in_one_go'] = round(float(np.mean([r['processor_seconds'] for r in all_])/base), 3)
    command = 'python benchmarks/shift_and_merge.py --scenes ' + ' '.join(map(str, args.scenes)) + f' --weights {Path(args.weights).name}'
    about = dict(command=command, model=s.name, size=SIDE, factor=FACTOR, seeds=args.scenes, data='drawn scenes, each its own exemplar',
                 times='processor time, one thread', squeezenet_in_losses=True)
    Path(args.out).write_text(json.dumps(dict(**about, means=means, scenes=rows), indent=1) + '\n')


if __name__ == '__main__': main()
