"""Write MODEL_CARD.md of a shipped model from its configuration and its measurements: `python benchmarks/model_card.py NAME`."""
import json
import sys
from pathlib import Path

from msca.evidence.metrics import loss_networks

ROOT = Path(__file__).parents[1]
PHOTOS = dict(
    data="""Photos with label maps, the training side of a split by place (no place on both sides):
SIFT Flow (MIT spatial-envelope photos with LabelMe labels), LabelMe Facade, Stanford Background, MSRC v2 (outdoor part) and CamVid, mapped by class \
name onto the shared label set, and
procedural scenes drawn by `msca.data.render`.""",
    licence="""**Research, non-commercial use only.** The data sets allow research use (LabelMe Facade: non-commercial and research experiments; \
CamVid: CC BY-NC 4.0 is stated for the repository it came from;
Stanford Background, SIFT Flow and MSRC v2: research data sets without a license file). The weights carry the same restriction. No photo is contained in the package.""",
    expect="The photos are outdoor scenes: coasts, mountains, forests, fields, rivers, highways, streets and facades; indoor scenes and close-ups are outside.")
PROCEDURAL = dict(
    data="Procedural scenes drawn by `msca.data.render`, nothing else.",
    licence="Apache-2.0, free for any use: no photo was a training sample. (Networks through which its losses looked had been trained on ImageNet; none of them is included.)",
    expect="It has seen drawn scenes only: of a real photograph expect it to take the overall color and light, not the materials.")
LOSS = """The perceptual loss used an ImageNet-trained SqueezeNet 1.0 (BSD license) as a frozen measuring instrument; it is not part of the model."""
SEMANTIC = """Two ImageNet-trained networks were frozen measuring instruments of the losses: EfficientNet-Lite0 (Apache-2.0), through which the \
semantic discriminator saw, and a distilled
VGG-19 (MIT), whose features the perceptual loss compared.{before} None of them is part of the model.{marked}"""
MARKED = """ Measures that look through one of
these networks or its kin are marked † below: the model was trained to please them."""
WENT_ON = {'scenes-256': ' In the trainings of `scenes-256-v1`, from which this one went on, it was SqueezeNet 1.0.'}
IS = dict(msca="Compact configuration of msca's masked spatial-channel attention with a SPADE generator",
          sean='SEAN (Zhu et al., 2020) in the compact size, with one linear layer for all classes (the paper has one for each) and '
               'the mean color of every class beside its style code',
          groupdnet='GroupDNet (Zhu et al., 2020) in the compact size, with the mean color of every class beside its code map')
EARLIER = {'scenes-256-v1': 'scenes-256'}  # model → what took its place as the default
LEFT_IN = {'scenes-256': 'NEXT/averages/002951', 'scenes-256-v1': 'RUN/smooth', 'scenes-128': 'RUN/more', 'procedural-128': 'RUN/full',
           'procedural-256': 'RUN/averages/002100'}  # the last run of each; others: RUN
BESIDE = {'procedural-256': {'procedural-128': 'procedural-128-at-256'}}  # model → others measured at its size, and their reports
SETS = dict(siftflow='SIFT Flow', labelmefacade='LabelMe Facade', msrc_v2='MSRC')


def read(name): return json.loads((ROOT/'results'/f'{name}.json').read_text())


def span(v, f='{:.2f}'): return f"{f.format(v['value'])} ({f.format(v['low'])} to {f.format(v['high'])})"
def pair(a, b, f='{:.0%}'): return f'{f.format(a)} / {f.format(b)}'
def db(v): return f"{v['value']:.1f}"


BRIEF = [
    ('photos', lambda r: str(r['photos'])),
    ('PSNR in dB, exemplar: the photo mirrored / another place', lambda r: f"{db(r['psnr']['right'])} / {db(r['psnr']['random'])}"),
    ('PSNR of painting every class in its true mean color', lambda r: db(r['psnr']['class_means'])),
    ('right exemplar nearer to the truth than another: features / colors', lambda r: pair(*r['right_nearer_than_random'].values())),
    ('nearer to the truth than class means: features', lambda r: f"{r['nearer_than_class_means']:.0%}"),
    ("high-frequency energy, of the truth's", lambda r: f"{r['high_frequency_median']:.2f}")]
WHOLE = [
    ('photos', lambda r: str(r['photos'])),
    ('PSNR in dB, exemplar: the photo mirrored', lambda r: span(r['psnr']['right'])),
    ('… a photo of another place', lambda r: span(r['psnr']['random'])),
    ('… mirrored, with its annotated map in place of the parsed one', lambda r: span(r['psnr']['annotated'])),
    ('… mirrored, the picture blurred (Gaussian of 2 pixels)', lambda r: span(r['psnr']['blurred'])),
    ('… mirrored, its classes moved to their true mean colors', lambda r: span(r['psnr']['recolored'])),
    ('for comparison: every class in its true mean color', lambda r: span(r['psnr']['class_means'])),
    ('… in its mean color in the exemplar as parsed', lambda r: span(r['psnr']['parsed_class_means'])),
    ("… everything in the photo's mean color", lambda r: span(r['psnr']['flat'])),
    ('right exemplar nearer to the truth than another: SqueezeNet distance / color histogram', lambda r: pair(*r['right_nearer_than_random'].values())),
    ('nearer to the truth than class means, SqueezeNet distance', lambda r: f"{r['nearer_than_class_means']:.0%}"),
    ("high-frequency energy, of the truth's (median)", lambda r: f"{r['high_frequency_median']:.2f}"),
    ('parser accuracy on pictures', lambda r: span(r['parser']['pictures'])), ('… on photos', lambda r: span(r['parser']['photos']))]
SWAPS = [
    ('restyling: PSNR in dB with the right / another exemplar', lambda r: pair(r['restyling']['psnr_right'], r['restyling']['psnr_other'], '{:.1f}') if 'restyling' in r else '–'),
    ("… high-frequency energy with the right one, of the truth's (median; 1 is right)",
     lambda r: f"{r['restyling']['high_frequency_median']:.2f}" if 'high_frequency_median' in r.get('restyling', {}) else '–'),
    ('restyling: how often the right exemplar wins', lambda r: f"{r['restyling']['right_is_better']:.0%}" if 'restyling' in r else '–'),
    ('classes in both scenes come out nearer to the given exemplar than to another', lambda r: f"{r['swapping']['color']['nearer_to_given']:.0%}"),
    ('parser accuracy on pictures / on originals', lambda r: pair(*list(r['swapping']['layout'].values())[:2]))]


def with_sign(v, f): return f"{v['value']:+{f}} ({v['low']:+{f}} to {v['high']:+{f}})"
def ratio(v): return f"× {v['value']:.2f} ({v['low']:.2f} to {v['high']:.2f})"


HELD_OUT = [  # name, network or None, value of a report, paired difference
    ('LPIPS, VGG-16 (lower is better)', 'lpips_vgg', lambda r: span(r['mirroring']['lpips_vgg'], '{:.3f}'), lambda d: with_sign(d['lpips_vgg'], '.3f')),
    ('LPIPS, AlexNet (lower)', 'lpips_alex', lambda r: span(r['mirroring']['lpips_alex'], '{:.3f}'), lambda d: with_sign(d['lpips_alex'], '.3f')),
    ('PSNR in dB (higher)', 'psnr', lambda r: span(r['mirroring']['psnr']), lambda d: with_sign(d['psnr'], '.2f')),
    ('SSIM (higher)', 'ssim', lambda r: span(r['mirroring']['ssim'], '{:.3f}'), lambda d: with_sign(d['ssim'], '.3f')),
    ('color distance to the truth (lower)', 'color', lambda r: span(r['mirroring']['color']), lambda d: with_sign(d['color'], '.2f')),
    ("high-frequency energy, of the truth's (median; 1 is right)", 'high_frequency', lambda r: f"{r['mirroring']['high_frequency_median']:.2f}", lambda d: '–'),
    ('pixels whose class DeepLab sees in the picture (higher)', 'deeplab', lambda r: span(r['mirroring']['deeplab']), lambda d: with_sign(d['deeplab'], '.2f')),
    ('… as a share of what it sees in the photos', 'deeplab', lambda r: f"{r['deeplab']['ratio']:.2f}", lambda d: '–'),
    ('right exemplar nearer to the truth than another, by color (higher)', 'color', lambda r: f"{r['right_exemplar_nearer']['color']:.1%}", lambda d: '–'),
    ('… by LPIPS, AlexNet (higher)', 'lpips_alex', lambda r: f"{r['right_exemplar_nearer']['lpips_alex']:.1%}", lambda d: '–'),
    ('swaps: Fréchet distance, AlexNet (lower)', 'alexnet', lambda r: f"{r['swaps']['alexnet']['frechet']:.1f}", lambda d: ratio(d['frechet_alexnet_ratio'])),
    ('swaps: precision / recall, AlexNet (higher)', 'alexnet', lambda r: pair(r['swaps']['alexnet']['precision'], r['swaps']['alexnet']['recall']), lambda d: '–'),
    ('swaps: Fréchet distance, EfficientNet-Lite0 (lower)', 'efficientnet',
     lambda r: f"{r['swaps']['efficientnet']['frechet']:.0f}", lambda d: ratio(d['frechet_efficientnet_ratio']))]
MAIN = 'lpips_vgg', 'lpips_alex', 'psnr', 'deeplab', 'color', 'alexnet'  # of HELD_OUT, for a short table


def held_out_table(name, networks=None):
    "A model on the fixed held-out list beside the one that it was compared with; † where its losses looked through the network or its kin."
    new = read(f'held-out-{name}')
    before = new['against']['model'].removesuffix('.json')
    old = read(before)
    rows = [r for r in HELD_OUT if networks is None or r[1] in networks]
    lines = [f"| {said}{' †' if key in new['in_losses'] else ''} | {value(old)} | {value(new)} | {difference(new['against'])} |" for said, key, value, difference in rows]
    return '\n'.join([f"| {new['photos']} held-out photos, {new['size']}×{new['size']} | `{old['model']}` | `{name}` | difference, paired |", '|---|---|---|---|', *lines])


def table(head, columns, rows):
    "Markdown; `columns` are name → report."
    lines = [f"| {name} | {' | '.join(value(r) for r in columns.values())} |" for name, value in rows]
    return '\n'.join([f"| {head} | {' | '.join(columns)} |", '|---|'+'---|'*len(columns), *lines])


def photo_table(report, rows=WHOLE):
    "What was measured on each set of photos; with 95 % intervals unless `rows` are `BRIEF`."
    named = {SETS[s] + (' (enlarged)' if s == 'msrc_v2' and report['size'] > 213 else ''): r for s, r in report['sets'].items()}  # most of MSRC's photos are 213 pixels high
    return table(f"held-out photos, {report['size']}×{report['size']}", named, rows)


def swap_table(reports):
    "What was measured on procedural scenes and on swapped photos: a column for each."
    columns = {(n, k): r[k] for n, r in reports.items() for k in ('procedural', 'photos') if k in r}
    named = {f"{n}{'procedural scenes' if k == 'procedural' else SETS[r['set']]}, {reports[n]['size']}×{reports[n]['size']}": r for (n, k), r in columns.items()}
    rows = [r for r in SWAPS if {r[1](v) for v in named.values()} != {'–'}]
    return table(f"{next(iter(columns.values()))['swapping']['n']} held-out pairs", named, rows)


def parser_table(report):
    "Intersection over union per class, in percent."
    sets = list(report['held_out'])
    cell = lambda s, c: f"{100*report['held_out'][s]['iou'][c]:.0f}" if report['held_out'][s]['iou'].get(c) is not None else '–'
    lines = [f"| {c} | {' | '.join(cell(s, c) for s in sets)} |" for c in report['held_out'][sets[0]]['iou']]
    total = [f"| **{name}** | {' | '.join(f'''{100*report['held_out'][s][key]:.1f}''' for s in sets)} |"
             for name, key in (('pixel accuracy', 'pixel_accuracy'), ('mean IoU', 'mean_iou'))]
    return '\n'.join([f"| IoU in % | {' | '.join(sets)} |", '|---|'+'---:|'*len(sets), *lines, *total])


def measured_on_list(name):
    "What `held_out.py` measured, as Markdown."
    report = read(f'held-out-{name}')
    return f"""Each photo of the list `results/held_out.json` is painted from itself, mirrored, and from four photos of other places (swaps). \
`{report['made_by']['command']}` (seed {report['made_by']['seed']},
{report['made_by']['date']}), everything in `results/held-out-{name}.json`; in brackets 95 % bootstrap intervals over photos, of Fréchet distances by leaving groups of photos out:

{held_out_table(name)}

{beside_before(report) if name in WENT_ON else class_code_table(name)}"""


def class_code_table(name):
    "Whether a class's code keeps to its class, as Markdown."
    report = read('class-codes-photos')
    r, c = report[name], report[name]['codes of photos']
    return f"""The same photos, each with its first two exemplars of other structure (`{report['command']}`, \
{report['time'][:10]}); mean changes of values in [-1, 1], LPIPS on AlexNet:

| what is changed | what changes |
|---|---|
| another exemplar | {r['another_exemplar']:.3f} |
| other noise | {r['other_noise']:.3f} |
| one class's code, from another photo: in the class | {r['exchange']['inside']:.3f} |
| … elsewhere | {r['exchange']['elsewhere']:.3f} (a factor of {r['exchange']['inside']/r['exchange']['elsewhere']:.1f}) |
| LPIPS when a class has another photo's code, summed in the class (mCSD, higher) / elsewhere (mOCD, lower); first six layouts | {c['mcsd']:.4f} / {c['mocd']:.4f} |
| … mean over their pixels | {c['mcsd_area']:.4f} / {c['mocd_area']:.4f} |"""


def beside_before(report):
    "What is better and what is worse than in the model before, as Markdown."
    study = read('study')
    return f"""**Better than before:** LPIPS by either network, the layout that DeepLab sees, the distance of swaps from photos, the amount of texture, and how \
often the right exemplar is nearer by LPIPS.
**As before:** color, and PSNR (lower by {-report['against']['psnr']['value']:.2f} dB, the interval includes zero). **Worse than before:** SSIM, by \
{-report['against']['ssim']['value']:.3f}.

Of {sum(s['pairs'] for s in study['sets'].values())} pairs of pictures, this model's and the earlier one's side by side without names, \
{study['reader'].partition(' that')[0]} preferred this model's in {sum(s['scenes_256'] for s in study['sets'].values())}
and the earlier one's in {sum(s['scenes_256_v1'] for s in study['sets'].values())}, \
with {sum(s['ties'] for s in study['sets'].values())} tie (`results/study.json`): mostly for water, foliage, cars and windows; \
the earlier one's were preferred for some plain walls and calm skies."""


def measured(name):
    "Everything that was measured, as Markdown."
    if not (ROOT/'results'/f'{name}.json').is_file(): return measured_on_list(name)
    report = read(name)
    about = report['made_by']
    said = f"`{about['command']}` (seed {about['seed']}, {about['date']}; held out {about['held_out']}), everything in `results/{name}.json`"
    if 'msrc_v2' in about: said += f"; MSRC by `{about['msrc_v2']['command']}`, {about['msrc_v2']['why']}"
    others = {}
    for n, r in BESIDE.get(name, {}).items():
        others[f'`{n}`, '] = other = read(r)
        said += f"; `{n}` by `{other['made_by']['command']}`, in `results/{r}.json`"
    tables = ([photo_table(report)] if 'sets' in report else []) + [swap_table({**others, f'`{name}`, ' if others else '': report})]
    return '\n\n'.join([f"{said}{'; means with 95 % bootstrap intervals' if 'sets' in report else ''}:", *tables])


def card(name):
    "The text of the model card."
    meta = json.loads((ROOT/'msca'/'pretrained_models'/name/'config.json').read_text())
    recipe, about = read(f'{name}-training'), PROCEDURAL if name.startswith('procedural') else PHOTOS
    holds = '`$MSCA_DATA` holds the photo sets as folders with `images/`, `labels/` and `classes.txt`, ' if '$MSCA_DATA' in recipe['command'] else ''
    semantic = 'efficientnet-lite0' in loss_networks(meta)
    caution = '' if semantic else 'Parser accuracy is pixel accuracy of the shipped parser, which was in no generator loss. '
    if not semantic and 'sets' in read(name): caution += 'SqueezeNet features were, and the SqueezeNet distance is near to them. '
    if name == 'scenes-256-v1': caution += 'High-frequency energy is near to the loss of texture. '
    failures = ' Pictures of what goes wrong are in the notebook `480_evidence.shipped`.' if name == 'scenes-256' else ''
    earlier = f'\n\nThis was the default model before `{EARLIER[name]}`, which went on from it.' if name in EARLIER else ''
    weights = 'the distilled VGG-19 as a file of arrays (.npz)' if semantic else "a SqueezeNet 1.0 weights file under torchvision's\nnames"
    made = f"made as `benchmarks/train_parser.py` says and measured in `{recipe['parser']}`."
    parser_is = f'. The parser was {made}' if semantic else f', and PARSER is the folder of the parser, {made}'
    parser = json.loads((ROOT/recipe['parser']).read_text())
    noted = f"\n\n{parser['note']}" if 'note' in parser else ''
    found = measured(name)
    differences, steps = ('\n'.join(f"- {s}" for s in recipe[k]) for k in ('differences', 'steps'))
    return f"""# {name}

Paints a layout of {len(meta['label_set']['classes'])} classes ({', '.join(meta['label_set']['classes'])}) in the style of an exemplar photo, at \
{meta['size']}×{meta['size']} and other sizes near it.
{IS[meta.get('variant', 'msca')]}; `parser.safetensors` beside it labels exemplars that come without a label map.{earlier}

## Data

{about['data']}{recipe.get('saw', '')}

## License

{about['licence']}

## Recipe

{steps}

{SEMANTIC.format(before=WENT_ON.get(name, ''), marked=MARKED if '†' in found else '') if semantic else LOSS}

Command: `{recipe['command']}`, which leaves this model in `{LEFT_IN.get(name, 'RUN')}`, where {holds}`$WEIGHTS` is {weights}{parser_is} Hardware: \
{recipe['hardware']}. Time: {recipe['time']}.

## Differences from the committed code

The weights cannot be regenerated bit for bit:

{differences}

## Measured on held-out scenes

{found}

{caution}The parser itself, on whole held-out scenes (`{recipe['parser']}`):

{parser_table(parser)}{noted}

## Intended use and known failures

For trying, teaching and studying example-guided synthesis, and as a starting point for training (`msca train --init {name}`). {recipe['limits']}
{about['expect']} Not for deceiving anyone about what a place looks like.{failures}
"""


if __name__ == '__main__': (ROOT/'msca'/'pretrained_models'/sys.argv[1]/'MODEL_CARD.md').write_text(card(sys.argv[1]))
