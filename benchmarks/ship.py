"""Put a trained run into the package: `python benchmarks/ship.py RUN PARSER NAME [--size N]`.

Writes msca/pretrained_models/NAME with the synthesizer in half precision and the parser; the model card beside them is written by model_card.py. What a run of train_scenes.py used
does not stand in its checkpoints: `python benchmarks/ship.py NEXT/averages/002951 msca/pretrained_models/scenes-256-v1 scenes-256 --settings NEXT/settings.jsonl` adds it,
and the networks that were in its losses or in those of the model that it started from. After `--scratch` PARSER is the folder of the parser alone.
"""
import argparse
import json
from pathlib import Path

from msca.evidence.metrics import loss_networks
from msca.model.checkpoint import load_synthesizer, read_config, save_synthesizer
from msca.model.segmenter import load_segmenter, save_segmenter

PHOTOS = 'trained on SIFT Flow, LabelMe Facade, Stanford Background, MSRC and CamVid photos plus procedural scenes; research, non-commercial use only'
NOTICES = dict.fromkeys(('scenes-256', 'scenes-256-v1', 'scenes-128', 'sean-128', 'groupdnet-128'), PHOTOS) | \
    dict.fromkeys(('procedural-256', 'procedural-128'), 'trained on procedural scenes alone; Apache-2.0, free for any use')
LEFT_OUT = ('iteration', 'out', 'cache', 'threads', 'minutes', 'state_minutes', 'sample_every', 'backbone_weights', 'pack', 'phase', 'piece', 'device',
            'alexnet')  # of a machine, not of a model


def trained_with(path, before):
    "Fields of config.json from settings of train_scenes.py, the last of them, and from the folder of the parser, which is the checkpoint that the run started from, if it did."
    settings = {k: v for k, v in json.loads(Path(path).read_text().splitlines()[-1]).items() if k not in LEFT_OUT and v != 'None'}
    earlier = [] if 'scratch' in settings else loss_networks(read_config(before))
    settings |= dict(parser=Path(before).name, init='random weights' if 'scratch' in settings else Path(before).name)
    if 'data' in settings: settings['data'] = '$MSCA_DATA'
    settings['perceptual_weights'] = Path(settings['perceptual_weights']).name
    return dict(trained_with=settings, networks_in_losses=[*earlier, settings['perceptual_network'].replace('_', '-'), settings['backbone']])  # as recipes name them


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('run', help='checkpoint folder of a finished run')
    ap.add_argument('parser', help='parser folder')
    ap.add_argument('name', choices=NOTICES)
    ap.add_argument('--size', type=int, help="N, at which the model paints unless told otherwise (default: the run's)")
    ap.add_argument('--settings', metavar='FILE', help='settings.jsonl of train_scenes.py; PARSER is the folder that the run started from, or with --scratch that of the parser')
    a = ap.parse_args()
    out = Path(__file__).parents[1]/'msca'/'pretrained_models'/a.name
    model, label_set, meta = load_synthesizer(a.run)
    parser, parsed = load_segmenter(a.parser)
    if parsed.classes != label_set.classes: ap.error('the parser has other classes than the synthesizer')
    training = meta.get('training') or {}
    if training.get('perceptual_weights'): training['perceptual_weights'] = Path(training['perceptual_weights']).name  # not where it lay
    info = trained_with(a.settings, a.parser) if a.settings else dict(training=training)
    save_synthesizer(model, label_set, a.size or meta['size'], out, dict(notice=NOTICES[a.name], **info), half=True)
    save_segmenter(parser, label_set, out)
    for f in out.iterdir(): f.chmod(0o644)
    print(f'{out}: {sum(f.stat().st_size for f in out.iterdir())/2**20:.1f} MiB')


if __name__ == '__main__': main()
