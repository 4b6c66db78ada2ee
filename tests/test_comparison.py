"Comparisons of reports with given numbers: what a reader of the tables is told, and when a difference between trainings counts."
import csv
import json

import numpy as np
import pytest

from msca.evidence.comparison import Comparison, comparison_text
from msca.evidence.orderings import orderings
from msca.evidence.report import Report, bootstrap_mean


def write_report(path, values, sizes):
    "A finished report: task → one PSNR a question, and the task's side in pixels."
    scores = {t: {'psnr': bootstrap_mean(v)._asdict()} for t, v in values.items()}
    tasks = {t: dict(n=len(v), size=sizes[t]) for t, v in values.items()}
    metrics = {'psnr': dict(better='higher', against='truth', range=[0, None])}
    path.write_text(json.dumps(dict(format='msca-report', finished=True, settings=dict(tasks=tasks), metrics=metrics, scores=scores,
                                    unavailable={}, remarks=[], made_by={})))
    with path.with_suffix('.csv').open('w', newline='') as f:
        rows = csv.DictWriter(f, ['task', 'number', 'name', 'exemplar', 'psnr'])
        rows.writeheader()
        for t, v in values.items(): rows.writerows(dict(task=t, number=i, name=f'{t}{i}', exemplar='x', psnr=x) for i, x in enumerate(v))
    return Report(path)


@pytest.mark.parametrize('sizes, said', [({'mirroring': 128, 'restyling': 128}, 'at 128×128 pixels'),
                                         ({'mirroring': 256, 'restyling': 128}, 'at 128×128 and 256×256 pixels'),
                                         ({'mirroring': 64}, 'at 64×64 pixels')])
def test_the_text_names_every_size(sizes, said, tmp_path):
    values = {t: [10., 11., 12.][:2+i] for i, t in enumerate(sizes)}
    text = comparison_text(Comparison({'one': write_report(tmp_path/'one.json', values, sizes)}))
    assert f"Questions per task: {', '.join(['2', '3'][:len(sizes)])}, {said}." in text


def verdict_of(tmp_path, **psnr):
    "What becomes of the paper's `msca` above `gap` when models have these values, one a question."
    reports = {n.replace('_', '-'): write_report(tmp_path/f'{n}.json', {'mirroring': v}, {'mirroring': 64}) for n, v in psnr.items()}
    (found,) = orderings(Comparison(reports))
    assert found.ours.high < 0 or found.ours.low > 0  # the questions alone would decide
    return found.verdict, found.luck


def test_a_difference_counts_only_beyond_what_a_seed_does(tmp_path):
    "One decibel on every question: decided when a model's seeds differ by half of one, undecided when they differ by one or two."
    full = 20+np.arange(6.)/10
    gap = full-1
    assert verdict_of(tmp_path, msca=full, gap=gap) == ('holds', 0)
    assert verdict_of(tmp_path, msca=full, msca_seed1=full+.5, gap=gap+.25)[0] == 'holds'
    assert verdict_of(tmp_path, msca=full, msca_seed1=full+.5, gap=gap+2.5)[0] == 'reversed'
    even = np.full(6, 20.)  # halves of whole numbers, so that equal means equal
    for spread in (1., 2.):  # the mean over seeds stays one decibel ahead
        assert verdict_of(tmp_path, msca=even+spread/2, msca_seed1=even-spread/2, gap=even-1) == ('undecided', spread)
        assert verdict_of(tmp_path, msca=even, gap=even-1+spread/2, gap_seed1=even-1-spread/2) == ('undecided', spread)
