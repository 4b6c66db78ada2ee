"""Write MODEL_CARD.md of a shipped model from its configuration and its measurements: `python benchmarks/model_card.py NAME`."""
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PHOTOS = dict(
    data="""Photos with label maps, the training side of a split by place (no place on both sides):
SIFT Flow (MIT spatial-envelope photos with LabelMe labels), LabelMe Facade, Stanford Background, MSRC v2 (outdoor part) and CamVid, mapped by class name onto the shared label set, and
procedural scenes drawn by `msca.data.render`.""",
    licence="""**Research, non-commercial use only.** The data sets allow research use (LabelMe Facade: non-commercial and research experiments; CamVid: CC BY-NC 4.0 is stated for the repository it came from;
Stanford Background, SIFT Flow and MSRC v2: research data sets without a licence file). The weights carry the same restriction. No photo is contained in the package.""",
    expect="The photos are outdoor scenes: coasts, mountains, forests, fields, rivers, highways, streets and facades; indoor scenes and close-ups are outside.")
PROCEDURAL = dict(
    data="Procedural scenes drawn by `msca.data.render`, nothing else.",
    licence="Apache-2.0, free for any use: no photo was a training sample. (The perceptual loss compared features of an ImageNet-trained network, which is not included.)",
    expect="It has seen drawn scenes only: of a real photograph expect it to take the overall colour and light, not the materials.")
LOSS = """The perceptual loss used an ImageNet-trained SqueezeNet 1.0 (BSD licence) as a frozen measuring instrument; it is not part of the model."""
LEFT_IN = {'scenes-256': 'smooth', 'scenes-128': 'more', 'procedural-128': 'full'}  # the last run of each
SETS = dict(siftflow='SIFT Flow', labelmefacade='LabelMe Facade', msrc_v2='MSRC')


def read(name): return json.loads((ROOT/'results'/f'{name}.json').read_text())


def span(v, f='{:.2f}'): return f"{f.format(v['value'])} ({f.format(v['low'])} to {f.format(v['high'])})"
def pair(a, b, f='{:.0%}'): return f'{f.format(a)} / {f.format(b)}'
def db(v): return f"{v['value']:.1f}"


BRIEF = [
    ('photos', lambda r: str(r['photos'])),
    ('PSNR in dB, exemplar: the photo mirrored / another place', lambda r: f"{db(r['psnr']['right'])} / {db(r['psnr']['random'])}"),
    ('PSNR of painting every class in its true mean colour', lambda r: db(r['psnr']['class_means'])),
    ('right exemplar nearer to the truth than another: features / colours', lambda r: pair(*r['right_nearer_than_random'].values())),
    ('nearer to the truth than class means: features', lambda r: f"{r['nearer_than_class_means']:.0%}"),
    ("high-frequency energy, of the truth's", lambda r: f"{r['high_frequency_median']:.2f}")]
WHOLE = [
    ('photos', lambda r: str(r['photos'])),
    ('PSNR in dB, exemplar: the photo mirrored', lambda r: span(r['psnr']['right'])),
    ('… a photo of another place', lambda r: span(r['psnr']['random'])),
    ('… mirrored, with its annotated map in place of the parsed one', lambda r: span(r['psnr']['annotated'])),
    ('… mirrored, the picture blurred (Gaussian of 2 pixels)', lambda r: span(r['psnr']['blurred'])),
    ('… mirrored, its classes moved to their true mean colours', lambda r: span(r['psnr']['recolored'])),
    ('for comparison: every class in its true mean colour', lambda r: span(r['psnr']['class_means'])),
    ('… in its mean colour in the exemplar as parsed', lambda r: span(r['psnr']['parsed_class_means'])),
    ("… everything in the photo's mean colour", lambda r: span(r['psnr']['flat'])),
    ('right exemplar nearer to the truth than another: SqueezeNet distance / colour histogram', lambda r: pair(*r['right_nearer_than_random'].values())),
    ('nearer to the truth than class means, SqueezeNet distance', lambda r: f"{r['nearer_than_class_means']:.0%}"),
    ("high-frequency energy, of the truth's (median)", lambda r: f"{r['high_frequency_median']:.2f}"),
    ('parser accuracy on pictures', lambda r: span(r['parser']['pictures'])), ('… on photos', lambda r: span(r['parser']['photos']))]
SWAPS = [
    ('restyling: PSNR in dB with the right / another exemplar', lambda r: pair(r['restyling']['psnr_right'], r['restyling']['psnr_other'], '{:.1f}') if 'restyling' in r else '–'),
    ('restyling: how often the right exemplar wins', lambda r: f"{r['restyling']['right_is_better']:.0%}" if 'restyling' in r else '–'),
    ('classes in both scenes come out nearer to the given exemplar than to another', lambda r: f"{r['swapping']['color']['nearer_to_given']:.0%}"),
    ('parser accuracy on pictures / on originals', lambda r: pair(*list(r['swapping']['layout'].values())[:2]))]


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
    return table(f"{next(iter(columns.values()))['swapping']['n']} held-out pairs", named, SWAPS)


def parser_table(report):
    "Intersection over union per class, in percent."
    sets = list(report['held_out'])
    cell = lambda s, c: f"{100*report['held_out'][s]['iou'][c]:.0f}" if report['held_out'][s]['iou'].get(c) is not None else '–'
    lines = [f"| {c} | {' | '.join(cell(s, c) for s in sets)} |" for c in report['held_out'][sets[0]]['iou']]
    total = [f"| **{name}** | {' | '.join(f'''{100*report['held_out'][s][key]:.1f}''' for s in sets)} |" for name, key in (('pixel accuracy', 'pixel_accuracy'), ('mean IoU', 'mean_iou'))]
    return '\n'.join([f"| IoU in % | {' | '.join(sets)} |", '|---|'+'---:|'*len(sets), *lines, *total])


HELD_OUT = [  # of results/held-out-NAME.json and held-out-references.json: title, key of the measure, text
    ('LPIPS-VGG', 'lpips_vgg', lambda r: span(r['mirroring']['lpips_vgg'], '{:.3f}')), ('LPIPS-Alex', 'lpips_alex', lambda r: span(r['mirroring']['lpips_alex'], '{:.3f}')),
    ('PSNR in dB', None, lambda r: span(r['mirroring']['psnr'], '{:.1f}')), ('SSIM', None, lambda r: span(r['mirroring']['ssim'])),
    ("high-frequency energy, of the truth's (median)", None, lambda r: f"{r['mirroring']['high_frequency_median']:.2f}"),
    ('copying: how much nearer to the exemplar than to the truth (LPIPS-Alex)', 'copying', lambda r: span(r['mirroring']['copying'])),
    ('right exemplar nearer to the truth than another: color / LPIPS-Alex', None, lambda r: pair(*r['right_exemplar_nearer'].values()) if 'right_exemplar_nearer' in r else ''),
    ("layout recognized by DeepLab", 'deeplab', lambda r: f"{r['mirroring']['deeplab']['value']:.0%}" + (f" (on the photos {r['deeplab']['photos']:.0%})" if 'deeplab' in r else '')),
    ('swaps: Fréchet distance, AlexNet', 'alexnet', lambda r: f"{r['swaps']['alexnet']['frechet']:.1f}"), ('… precision / recall', 'alexnet', lambda r: pair(*(r['swaps']['alexnet'][k] for k in ('precision', 'recall')))),
    ('swaps: Fréchet distance, EfficientNet-Lite0', 'efficientnet', lambda r: f"{r['swaps']['efficientnet']['frechet']:.0f}"),
    ('… precision / recall', 'efficientnet', lambda r: pair(*(r['swaps']['efficientnet'][k] for k in ('precision', 'recall'))))]


def held_out_table(names, size=256):
    "Models and references on the fixed list of held-out photos; † where a network or its kin was in a model's losses."
    models = {n: read(f'held-out-{n}') for n in names}
    references = read('held-out-references')['references'] if (ROOT/'results'/'held-out-references.json').is_file() else {}
    plain = lambda text: text.split(' (')[0]  # references without intervals
    rows = [(title, lambda r, key=key, text=text: (text(r)+'†'*(key in r['in_losses'])) if 'in_losses' in r else plain(text(r))) for title, key, text in HELD_OUT]
    n = next(iter(models.values()))
    return table(f"{n['photos']} held-out photos, {size}×{size}; {n['swaps']['alexnet']['pictures']} swaps", models | references, rows)


def held_out_text(name):
    "What was measured of a model on the fixed list, as Markdown; nothing where there is no such report."
    if not (ROOT/'results'/f'held-out-{name}.json').is_file(): return ''
    report = read(f'held-out-{name}')
    marked = f"† {', '.join(report['in_losses'])}: a network in its losses, or kin of one." if report['in_losses'] else 'None of these networks, nor kin of one, was in its losses.'
    few = ' Fewer than ten swaps per feature number: these distances are too high, and compare only with each other.' if report['swaps']['alexnet']['few'] else ''
    return f"""`{report['made_by']['command']}` ({report['made_by']['date']}), everything in `results/held-out-{name}.json`: 40 photos of SIFT Flow, 20 of LabelMe Facade and 15 of MSRC, each painted from itself mirrored, and in the style
of four photos of other places. Beside it, pictures that no model painted. {marked}{few} Networks in its losses: {', '.join(report['networks_in_losses'] or ['none'])}.

{held_out_table([name])}

"""


def measured(name):
    "Everything that was measured, as Markdown."
    report = read(name)
    about = report['made_by']
    said = f"`{about['command']}` (seed {about['seed']}, {about['date']}; held out {about['held_out']}), everything in `results/{name}.json`"
    if 'msrc_v2' in about: said += f"; MSRC by `{about['msrc_v2']['command']}`, {about['msrc_v2']['why']}"
    tables = ([photo_table(report)] if 'sets' in report else []) + [swap_table({'': report})]
    return held_out_text(name) + '\n\n'.join([f"{said}{'; means with 95 % bootstrap intervals' if 'sets' in report else ''}:", *tables])


def card(name):
    "The text of the model card."
    meta = json.loads((ROOT/'msca'/'pretrained_models'/name/'config.json').read_text())
    recipe, about = read(f'{name}-training'), PHOTOS if name.startswith('scenes') else PROCEDURAL
    holds = '`$MSCA_DATA` holds the photo sets as folders with `images/`, `labels/` and `classes.txt`, ' if '$MSCA_DATA' in recipe['command'] else ''
    caution = ' SqueezeNet features were, and the SqueezeNet distance is near to them.' if 'sets' in read(name) else ''
    if name == 'scenes-256': caution += ' High-frequency energy is near to the loss of texture.'
    failures = ' Pictures of what goes wrong are in the notebook `480_evidence.shipped`.' if name == 'scenes-256' else ''
    parser = json.loads((ROOT/recipe['parser']).read_text())
    noted = f"\n\n{parser['note']}" if 'note' in parser else ''
    differences, steps = ('\n'.join(f"- {s}" for s in recipe[k]) for k in ('differences', 'steps'))
    return f"""# {name}

Paints a layout of {len(meta['label_set']['classes'])} classes ({', '.join(meta['label_set']['classes'])}) in the style of an exemplar photo, at {meta['size']}×{meta['size']} and other sizes near it.
Compact configuration of msca's masked spatial-channel attention with a SPADE generator; `parser.safetensors` beside it labels exemplars that come without a label map.

## Data

{about['data']}

## Licence

{about['licence']}

## Recipe

{steps}

{LOSS}

Command: `{recipe['command']}`, which leaves this model in `RUN/{LEFT_IN[name]}`, where {holds}`$WEIGHTS` is a SqueezeNet 1.0 weights file under torchvision's
names, and PARSER is the folder of the parser, made as `benchmarks/train_parser.py` says and measured in `{recipe['parser']}`. Hardware: {recipe['hardware']}. Time: {recipe['time']}.

## Differences from the committed code

The weights cannot be regenerated bit for bit:

{differences}

## Measured on held-out scenes

{measured(name)}

Parser accuracy is pixel accuracy of the shipped parser, which was in no generator loss.{caution} The parser itself, on whole held-out scenes (`{recipe['parser']}`):

{parser_table(parser)}{noted}

## Intended use and known failures

For trying, teaching and studying example-guided synthesis, and as a starting point for training (`msca train --init {name}`). {recipe['limits']}
{about['expect']} Not for deceiving anyone about what a place looks like.{failures}
"""


if __name__ == '__main__': (ROOT/'msca'/'pretrained_models'/sys.argv[1]/'MODEL_CARD.md').write_text(card(sys.argv[1]))
