"""Put a trained run into the package: `python benchmarks/ship.py RUN PARSER NAME [--size N]`.

Writes msca/pretrained_models/NAME with the synthesizer in half precision and the parser; the model card beside them is written by model_card.py.
"""
import argparse
from pathlib import Path

from msca.model.checkpoint import load_synthesizer, save_synthesizer
from msca.model.segmenter import load_segmenter, save_segmenter

PHOTOS = 'trained on SIFT Flow, LabelMe Facade, Stanford Background, MSRC and CamVid photos plus procedural scenes; research, non-commercial use only'
NOTICES = {'scenes-256': PHOTOS, 'scenes-128': PHOTOS, 'procedural-128': 'trained on procedural scenes alone; Apache-2.0, free for any use'}


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('run', help='checkpoint folder of a finished run')
    ap.add_argument('parser', help='parser folder')
    ap.add_argument('name', choices=NOTICES)
    ap.add_argument('--size', type=int, help="N, at which the model paints unless told otherwise (default: the run's)")
    a = ap.parse_args()
    out = Path(__file__).parents[1]/'msca'/'pretrained_models'/a.name
    model, label_set, meta = load_synthesizer(a.run)
    parser, parsed = load_segmenter(a.parser)
    if parsed.classes != label_set.classes: ap.error('the parser has other classes than the synthesizer')
    training = meta.get('training') or {}
    if training.get('perceptual_weights'): training['perceptual_weights'] = Path(training['perceptual_weights']).name  # not where it lay
    save_synthesizer(model, label_set, a.size or meta['size'], out, dict(notice=NOTICES[a.name], training=training), half=True)
    save_segmenter(parser, label_set, out)
    for f in out.iterdir(): f.chmod(0o644)
    print(f'{out}: {sum(f.stat().st_size for f in out.iterdir())/2**20:.1f} MiB')


if __name__ == '__main__': main()
