"""Write MODEL_CARD.md of a shipped model from its configuration and its measurements: `python benchmarks/model_card.py NAME`."""
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = {
    'scenes-128': """Photos with label maps, the training side of a split by place (no place on both sides):
SIFT Flow (MIT spatial-envelope photos with LabelMe labels), LabelMe Facade, Stanford Background, MSRC v2 (outdoor part) and CamVid, mapped by class name onto the shared label set, and
procedural scenes drawn by `msca.procedural`.""",
    'procedural-128': "Procedural scenes drawn by `msca.procedural`, nothing else."}
LICENCE = {
    'scenes-128': """**Research, non-commercial use only.** The data sets allow research use (LabelMe Facade: non-commercial and research experiments; CamVid: CC BY-NC 4.0 is stated for the repository it came from;
Stanford Background, SIFT Flow and MSRC v2: research data sets without a licence file). The weights carry the same restriction. No photo is contained in the package.""",
    'procedural-128': "Apache-2.0, free for any use: no photo was a training sample. (The perceptual loss compared features of an ImageNet-trained network, which is not included.)"}
EXPECT = {
    'scenes-128': "The photos are outdoor scenes: coasts, mountains, forests, fields, rivers, highways, streets and facades; indoor scenes and close-ups are outside.",
    'procedural-128': "It has seen drawn scenes only: of a real photograph expect it to take the overall colour and light, not the materials."}
LOSS = """The perceptual loss used an ImageNet-trained SqueezeNet 1.0 (BSD licence) as a frozen measuring instrument; it is not part of the model."""


def card(name):
    "The text of the model card."
    meta = json.loads((ROOT/'msca'/'pretrained_models'/name/'config.json').read_text())
    report = json.loads((ROOT/'results'/f'{name}.json').read_text())
    recipe = json.loads((ROOT/'results'/f'{name}-training.json').read_text())
    differences = '\n'.join(f"- {s}" for s in recipe['differences'])
    steps = '\n'.join(f"- {s}" for s in recipe['steps'])
    return f"""# {name}

Paints a layout of {len(meta['label_set']['classes'])} classes ({', '.join(meta['label_set']['classes'])}) in the style of an exemplar photo, at {meta['size']}×{meta['size']} and other sizes near it.
Compact configuration of msca's masked spatial-channel attention with a SPADE generator; `parser.safetensors` beside it labels exemplars that come without a label map.

## Data

{DATA[name]}

## Licence

{LICENCE[name]}

## Recipe

{steps}

{LOSS}

Command: `{recipe['command']}`, where `$MSCA_DATA` holds the photo sets as folders with `images/`, `labels/` and `classes.txt`, `$WEIGHTS` is a SqueezeNet 1.0 weights file under torchvision's
names, and PARSER is the folder that the command in `{recipe['parser']}` writes. Hardware: {recipe['hardware']}. Time: {recipe['time']}.

## Differences from the committed code

The weights cannot be regenerated bit for bit:

{differences}

## Measured on held-out scenes

`{report['made_by']['command']}` (seed {report['made_by']['seed']}, {report['made_by']['date']}), everything in `results/{name}.json`:

```json
{json.dumps({k: v for k, v in report.items() if k in ('restyling', 'colour_photos', 'layout_photos', 'colour_procedural', 'layout_procedural', 'mirroring')}, indent=1)}
```

`parser_on_*` is the pixel accuracy of the shipped parser, which was in no generator loss.

## Intended use and known failures

For trying, teaching and studying example-guided synthesis, and as a starting point for training (`msca train --init`). Texture is coarse: the model is small and was trained briefly on one CPU core.
Small objects (people, signs, vehicles, windows) are hints of colour. A class that the exemplar does not show gets a generic colour. Very dark exemplars lose layout detail.
{EXPECT[name]} Not for deceiving anyone about what a place looks like.
"""


if __name__ == '__main__': (ROOT/'msca'/'pretrained_models'/sys.argv[1]/'MODEL_CARD.md').write_text(card(sys.argv[1]))
