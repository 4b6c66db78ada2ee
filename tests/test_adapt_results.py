"What the how-to says of the gain of `msca adapt`: only numbers in `results/` are read, nothing is measured again."
import json
from pathlib import Path

import pytest

from msca.learning.adaptation import AdaptationConfig


def test_what_is_said_of_the_gain_was_measured():
    "Ratios of the report are those of its photos, and the how-to has its numbers."
    root = Path(__file__).parents[1]
    report, page = json.loads((root/'results'/'adapt.json').read_text()), (root/'docs'/'pages'/'howto'/'adapt.md').read_text()
    assert len(report['photos']) == 12 and all(r['iterations'] == report['recipe']['iterations'] for r in report['photos'])
    for key in ('lpips_alex', 'lpips_vgg', 'color', 'deeplab', 'parser'):
        ratios, told = [r['after'][key]/r['before'][key] for r in report['photos']], report['after_over_before'][key]
        assert told['value'] == pytest.approx(sum(ratios)/len(ratios), abs=1e-3) and told['low'] < told['value'] < told['high']
        assert f"{told['value']:.3f}".removeprefix('0') in page
    assert report['after_over_before']['lpips_alex']['high'] < 1 and min(report['after_over_before'][k]['value'] for k in ('deeplab', 'parser')) >= .9
    assert report['recipe'] == AdaptationConfig(side=128).to_dict()
