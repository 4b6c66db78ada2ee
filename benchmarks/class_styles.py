"""What models with a code per class cost, and whether they keep their word.

    python benchmarks/class_styles.py speed --out results/relatives_speed.json
    python benchmarks/class_styles.py control RUN… --size 64 --alexnet lpips_alex.npz --out control.json
    python benchmarks/class_styles.py parts RUN… --size 64 --scenes 100 --out parts.json
    python benchmarks/class_styles.py control sean-128 groupdnet-128 --data $MSCA_DATA --alexnet lpips_alex.npz --out results/class-codes-photos.json

`speed`: seconds of painting 256×256, in turn with msca's compact size, each as a module and folded for use, and of reading a photo with five
classes in GroupDNet's two forms. CPU time of one thread, best of several, so that other programs on the
machine count little.
`parts`: the error where the exemplar shows a pixel's class and where it lacks it, on the same scenes; the first model is the reference. How much
another exemplar, of another structure and in another style, changes a picture, and how much another training does (NAME-seed1 beside NAME).
`control`: trained models on procedural scenes that they have not seen, or with --data on the photos of held_out.py's list and their first two
exemplars. How much another exemplar of another structure changes a picture, and how much other noise does; how much a class's own exemplar
changes the class and everything else; mCSD and mOCD with codes of photos (LPIPS on AlexNet), and the share of pixels whose class the
exemplar lacks.
"""
import argparse
import json
import time
from functools import partial
from pathlib import Path

import torch
from held_out import LIST, Questions, rounded, sides

from msca.base.files import write_whole
from msca.base.labels import SCENE_LABELS, one_hot
from msca.data.layouts import procedural_layout
from msca.data.render import render
from msca.data.scene import image_to_tensor
from msca.data.styles import procedural_style
from msca.evidence.class_styles import class_style_scores, lpips_map
from msca.evidence.report import bootstrap_mean
from msca.model.class_codes import ClassCodes, draw_codes
from msca.model.folded import fold
from msca.model.synthesizer import build_synthesizer, find_variant, place_noise
from msca.pretrained.models import fold_spectral_norm, load_painter, model_folder
from msca.steering.class_styles import has_distribution

S, ROUNDS = len(SCENE_LABELS), 9
SPEED = 'msca', 'gap', 'no-attention', 'sean', 'groupdnet', 'spade', 'spade-vae', 'tsit', 'cocosnet', 'dense'


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
    models = {v: fold_spectral_norm(build_synthesizer(v, find_variant(v).config.compact(S))) for v in SPEED}
    layout, photo = one_hot((torch.arange(256).view(256, 1)//52).expand(1, 256, 256), S), torch.rand(1, 3, 256, 256)*2-1
    styles = {v: m.encode(photo, layout) for v, m in models.items()}
    for v in list(models): models[f'{v}, folded'], styles[f'{v}, folded'] = fold(models[v], 'float32'), styles[v]
    painting = in_turn({v: partial(m.paint, layout, styles[v]) for v, m in models.items()})
    encoder = models['groupdnet'].encoder
    reading = in_turn({form: partial(getattr(encoder, form), photo, layout) for form in ('dense', 'sparse')})
    ratios = {v: round(t/painting['msca, folded' if 'folded' in v else 'msca'], 3) for v, t in painting.items()}
    return dict(painting_256=painting, painting_ratio=ratios, reading_five_classes=reading,
                reading_ratio=round(reading['dense']/reading['sparse'], 2), threads=1, unit='s of CPU, best of 9', torch=torch.__version__)


def tensors(scenes):
    "Photos and labels, as a model takes them."
    return torch.stack([image_to_tensor(s.image) for s in scenes]), one_hot(torch.stack([torch.tensor(s.labels).long() for s in scenes]), S)


def drawn_scenes(n, size, seed):
    "Scenes to paint, and two sets of exemplars of other layouts: the first in the scenes' styles, the second in other ones."
    first = 50_000+1000*seed  # no training scene
    pairs = [[(first+i, first+i) for i in range(n)], [(first+500+i, first+i) for i in range(n)], [(first+700+i, first+300+i) for i in range(n)]]
    return [[render(procedural_layout(i), procedural_style(j), size) for i, j in some] for some in pairs]


def held_out_photos(data, size):
    "The photos of the list that are to be painted, and the first two exemplars of each."
    chosen = json.loads(LIST.read_text())['sets']
    questions = Questions(chosen, sides(data), size)
    found = [(scene, *exemplars[:2]) for scene, exemplars in map(questions.__getitem__, range(len(questions)))]
    return [list(some) for some in zip(*found)]


@torch.inference_mode()
def exchanged(model, c1, x2, c2, x3, c3):
    "Change of a class when its code comes from another photo that shows it, and of everything else; means over classes of at least 2 % of a layout."
    (codes, has), (theirs, have) = model.class_codes(x2, c2), model.class_codes(x3, c3)
    inside, outside = [], []
    for i in range(len(c1)):
        own = model.paint_codes(c1[i:i+1], codes[i:i+1])
        for k in range(S):
            region = c1[i, k] > 0
            if not .02 <= region.float().mean() < 1 or not (has[i, k] and have[i, k]): continue
            mixed = codes[i:i+1].clone()
            mixed[:, k] = theirs[i:i+1, k]
            change = (model.paint_codes(c1[i:i+1], mixed)-own).abs().mean((0, 1))
            inside.append(float(change[region].mean()))
            outside.append(float(change[~region].mean()))
    return dict(inside=sum(inside)/len(inside), elsewhere=sum(outside)/len(outside), exchanges=len(inside))


@torch.inference_mode()
def other_noise(model, painted, c1, x2, c2):
    "Mean change of pictures with another seed; None for a model without noise."
    noisy = place_noise(model, 1)
    change = float((model(c1, x2, c2)-painted).abs().mean()) if noisy else None
    place_noise(model, 0)
    return change


@torch.inference_mode()
def control(name, scenes, alexnet, seed):
    "All numbers of one trained model."
    model, _, meta = load_painter(model_folder(name))
    (_, c1), (x2, c2), (x3, c3) = map(tensors, scenes)
    painted, other = model(c1, x2, c2), model(c1, x3, c3)
    present = c2.amax((2, 3))[:, :, None, None]
    found = dict(variant=model.variant, updates=meta.get('best', {}).get('iteration'), another_exemplar=float((other-painted).abs().mean()),
                 other_noise=other_noise(model, painted, c1, x2, c2), lacking=float((c1*(1-present)).sum()/c1.sum()),
                 exchange=exchanged(model, c1, x2, c2, x3, c3))
    codes = model.class_codes(torch.cat([x2, x3]), torch.cat([c2, c3]))
    draw = partial(draw_codes, ClassCodes(*codes))
    measure = lpips_map('alex', alexnet)
    kinds = {'codes of photos': draw} | ({'random codes': model.random_codes} if has_distribution(model) else {})
    return found | {kind: class_style_scores(model, c1[:6], draw, measure, n=12, m=10, smallest=.02, seed=seed).summary() for kind, draw in kinds.items()}


@torch.inference_mode()
def parts(name, scenes, reference):
    "Mean error of every scene, from 0 to 2, over pixels whose class the exemplar shows and over those whose class it lacks; with the paired difference from `reference`."
    (truth, c1), (x2, c2), (x3, c3) = map(tensors, scenes)
    model = load_painter(model_folder(name))[0]
    painted = model(c1, x2, c2)
    error = (painted-truth).abs().mean(1, keepdim=True)
    shown = (c1*c2.amax((2, 3))[:, :, None, None]).sum(1, keepdim=True)
    rows = {part: ((error*where).sum((1, 2, 3))/where.sum((1, 2, 3))).tolist() for part, where in (('shown', shown), ('lacking', 1-shown))}
    found = {part: bootstrap_mean(row)._asdict() for part, row in rows.items()}
    if reference:
        for part, row in rows.items(): found[part]['difference'] = bootstrap_mean([a-b for a, b in zip(row, reference[part])])._asdict()
    return found | dict(rows=rows, painted=painted, another_exemplar=round(float((model(c1, x3, c3)-painted).abs().mean()), 4))


def compared_parts(names, scenes):
    "The two parts of every model; the first one is the reference. How much another exemplar and another training change a picture, and how much of the layouts is lacking."
    (_, c1), (_, c2), _ = map(tensors, scenes)
    found, reference, painted = dict(lacking=round(float((c1*(1-c2.amax((2, 3))[:, :, None, None])).sum()/c1.sum()), 4)), None, {}
    for name in names:
        row = parts(name, scenes, reference)
        reference = reference or row['rows']
        short = Path(name).name
        found[short] = {part: rounded(row[part]) for part in ('shown', 'lacking')} | dict(another_exemplar=row['another_exemplar'])
        painted[short] = row['painted']
        first = short.removesuffix('-seed1')
        if first != short and first in painted: found[short]['another_training'] = round(float((painted[short]-painted[first]).abs().mean()), 4)
    return found


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('what', choices=('speed', 'control', 'parts'))
    ap.add_argument('models', nargs='*', help='names or folders of trained models')
    ap.add_argument('--size', type=int, default=128)
    ap.add_argument('--scenes', type=int, default=24, help='how many drawn scenes')
    ap.add_argument('--data', help='folder of photo sets: the photos of results/held_out.json in place of drawn scenes')
    ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--alexnet', default='imagenet', help="AlexNet's weights: a file, or torchvision's download")
    ap.add_argument('--out', type=Path, required=True)
    a = ap.parse_args()
    torch.set_num_threads(1)
    if a.what == 'speed': found = speed()
    else:
        scenes = held_out_photos(a.data, a.size) if a.data else drawn_scenes(a.scenes, a.size, a.seed)
        found = compared_parts(a.models, scenes) if a.what == 'parts' else {Path(name).name: control(name, scenes, a.alexnet, a.seed) for name in a.models}
    which = '--data $MSCA_DATA' if a.data else f'--scenes {a.scenes}'
    shown = '' if a.what == 'speed' else f" {' '.join(Path(m).name for m in a.models)} --size {a.size} {which} --seed {a.seed}{' --alexnet lpips_alex.npz'*(a.what == 'control')}"
    data = 'random numbers' if a.what == 'speed' else 'results/held_out.json' if a.data else 'procedural scenes'
    about = dict(command=f'python benchmarks/class_styles.py {a.what}{shown} --out results/{a.out.name}', data=data, seed=a.seed, time=time.strftime('%Y-%m-%d %H:%M'))
    with write_whole(a.out) as part: part.write_text(json.dumps(about | found, indent=1)+'\n', encoding='utf-8')
    print(json.dumps(found, indent=1))


if __name__ == '__main__': main()
