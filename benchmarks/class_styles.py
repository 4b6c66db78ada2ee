"""What models with a code per class cost, and whether they keep their word.

    python benchmarks/class_styles.py speed --out results/relatives_speed.json
    python benchmarks/class_styles.py control RUN… --size 64 --alexnet lpips_alex.npz --out control.json

`speed`: seconds of painting 256×256, in turn with msca's compact size, each as a module and folded for use, and of reading a photo with five
classes in GroupDNet's two forms. CPU time of one thread, best of several, so that other programs on the
machine count little.
`control`: trained models on procedural scenes that they have not seen. How much another exemplar changes a picture; how much a class's own
exemplar changes the class and everything else; mCSD and mOCD with codes of photos (LPIPS on AlexNet), and the share of pixels whose class
the exemplar lacks.
"""
import argparse
import json
import time
from functools import partial
from pathlib import Path

import torch

from msca.base.files import write_whole
from msca.base.labels import SCENE_LABELS, one_hot
from msca.data.layouts import procedural_layout
from msca.data.render import render
from msca.data.scene import image_to_tensor
from msca.data.styles import procedural_style
from msca.evidence.class_styles import class_style_scores, lpips_map
from msca.model.class_codes import ClassCodes, draw_codes
from msca.model.folded import fold
from msca.model.synthesizer import build_synthesizer, find_variant
from msca.pretrained.models import fold_spectral_norm, load_painter

S, ROUNDS = len(SCENE_LABELS), 9


def in_turn(works):
    "CPU seconds of every work, the best of several rounds, one after another in every round."
    seconds = {name: [] for name in works}
    for work in works.values(): work()
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = time.thread_time()
            work()
            seconds[name].append(time.thread_time()-start)
    return {name: round(min(s), 4) for name, s in seconds.items()}


@torch.inference_mode()
def speed():
    "Painting and reading."
    torch.manual_seed(0)
    models = {v: fold_spectral_norm(build_synthesizer(v, find_variant(v).config.compact(S))) for v in ('msca', 'sean', 'groupdnet')}
    layout, photo = one_hot((torch.arange(256).view(256, 1)//52).expand(1, 256, 256), S), torch.rand(1, 3, 256, 256)*2-1
    styles = {v: m.encode(photo, layout) for v, m in models.items()}
    for v in list(models): models[f'{v}, folded'], styles[f'{v}, folded'] = fold(models[v], 'float32'), styles[v]
    painting = in_turn({v: partial(m.paint, layout, styles[v]) for v, m in models.items()})
    encoder = models['groupdnet'].encoder
    reading = in_turn({form: partial(getattr(encoder, form), photo, layout) for form in ('dense', 'sparse')})
    ratios = {v: round(t/painting['msca, folded' if 'folded' in v else 'msca'], 3) for v, t in painting.items()}
    return dict(painting_256=painting, painting_ratio=ratios, reading_five_classes=reading,
                reading_ratio=round(reading['dense']/reading['sparse'], 2), threads=1, unit='s of CPU, best of 9', torch=torch.__version__)


def scenes(pairs, size):
    "Photos and labels of (layout, style) pairs."
    rendered = [render(procedural_layout(i), procedural_style(j), size) for i, j in pairs]
    return torch.stack([image_to_tensor(s.image) for s in rendered]), one_hot(torch.stack([torch.tensor(s.labels).long() for s in rendered]), S)


@torch.inference_mode()
def exchanged(model, c1, x2, c2, x3, c3):
    "Change of a class when its code comes from another photo that shows it, and of everything else; means over classes of at least 2 % of a layout."
    (codes, has), (theirs, have) = model.class_codes(x2, c2), model.class_codes(x3, c3)
    inside, outside = [], []
    for i in range(len(c1)):
        own = model.paint_codes(c1[i:i+1], codes[i:i+1])
        for k in range(S):
            region = c1[i, k] > 0
            if region.float().mean() < .02 or not (has[i, k] and have[i, k]): continue
            mixed = codes[i:i+1].clone()
            mixed[:, k] = theirs[i:i+1, k]
            change = (model.paint_codes(c1[i:i+1], mixed)-own).abs().mean((0, 1))
            inside.append(float(change[region].mean()))
            outside.append(float(change[~region].mean()))
    return dict(inside=sum(inside)/len(inside), elsewhere=sum(outside)/len(outside), exchanges=len(inside))


@torch.inference_mode()
def control(folder, n, size, alexnet, seed):
    "All numbers of one trained model."
    model, _, meta = load_painter(Path(folder))
    first = 50_000+1000*seed  # no training scene
    _, c1 = scenes([(first+i, first+i) for i in range(n)], size)
    x2, c2 = scenes([(first+500+i, first+i) for i in range(n)], size)
    x3, c3 = scenes([(first+700+i, first+300+i) for i in range(n)], size)
    painted, other = model(c1, x2, c2), model(c1, x3, c3)
    present = c2.amax((2, 3))[:, :, None, None]
    found = dict(variant=model.variant, updates=meta.get('best', {}).get('iteration'), another_exemplar=float((other-painted).abs().mean()),
                 lacking=float((c1*(1-present)).sum()/c1.sum()), exchange=exchanged(model, c1, x2, c2, x3, c3))
    codes = model.class_codes(torch.cat([x2, x3]), torch.cat([c2, c3]))
    draw = partial(draw_codes, ClassCodes(*codes))
    scores = class_style_scores(model, c1[:6], draw, lpips_map('alex', alexnet), n=12, m=10, smallest=.02, seed=seed)
    found['codes of photos'] = scores.summary()
    if model.variant == 'groupdnet':
        found['random codes'] = class_style_scores(model, c1[:6], model.random_codes, lpips_map('alex', alexnet), n=12, m=10, smallest=.02, seed=seed).summary()
    return found


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('what', choices=('speed', 'control'))
    ap.add_argument('runs', nargs='*', help='folders of trained models')
    ap.add_argument('--size', type=int, default=128)
    ap.add_argument('--scenes', type=int, default=24)
    ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--alexnet', default='imagenet', help="AlexNet's weights: a file, or torchvision's download")
    ap.add_argument('--out', type=Path, required=True)
    a = ap.parse_args()
    torch.set_num_threads(1)
    if a.what == 'speed': found = speed()
    else: found = {Path(run).name: control(run, a.scenes, a.size, a.alexnet, a.seed) for run in a.runs}
    options = '' if a.what == 'speed' else f' RUN… --size {a.size} --scenes {a.scenes} --seed {a.seed}'
    command = f'python benchmarks/class_styles.py {a.what}{options}'
    about = dict(command=command, data='procedural scenes' if a.what == 'control' else 'random numbers', seed=a.seed, time=time.strftime('%Y-%m-%d %H:%M'))
    with write_whole(a.out) as part: part.write_text(json.dumps(about | found, indent=1)+'\n', encoding='utf-8')
    print(json.dumps(found, indent=1))


if __name__ == '__main__': main()
