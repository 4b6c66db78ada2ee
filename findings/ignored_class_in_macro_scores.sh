#!/usr/bin/env bash
# torchmetrics 1.9.0: ignore_index=0 with average='macro' (a class "void" that must not count). Accuracy, Precision, Recall and F1Score leave the ignored
# class out of the mean only as long as no pixel is predicted as it. One pixel of a true class that is predicted as void brings the class
# back, with a score of 0, and the mean over two classes becomes a mean over three. JaccardIndex of the same package leaves it out always,
# and the values of the true classes (average='none') are the same in both: only the mean changes what it is a mean of.
# Seen, 1 wrong pixel of 12, taken for the other true class and for void: F1Score .873 and .619 (its two true classes alone .929), Recall and Accuracy
# .875 and .583, Precision .9 and .667; JaccardIndex .775 and .875.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install torch==2.15.0 torchmetrics==1.9.0 numpy==2.4.6 >/dev/null 2>&1
v/bin/python - <<'P'
import torch
from torchmetrics import Accuracy, F1Score, JaccardIndex, Precision, Recall
truth = torch.tensor([0]*4 + [1]*4 + [2]*4)
other, void = (torch.tensor([0]*4 + [1]*3 + [k] + [2]*4) for k in (2, 0))
def score(kind, ids, average='macro'): return kind(task='multiclass', num_classes=3, average=average, ignore_index=0)(ids, truth)
expected = {F1Score: (.873, .619), Recall: (.875, .5833), Accuracy: (.875, .5833), Precision: (.9, .6667), JaccardIndex: (.775, .875)}
for kind, seen in expected.items():
    found = tuple(round(score(kind, ids).item(), 4) for ids in (other, void))
    print(kind.__name__, *found)
    assert found == seen
for kind in (F1Score, Recall, Precision):
    each = score(kind, void, 'none')
    assert each[0] == 0 and torch.isclose(each.sum()/3, score(kind, void)) and torch.isclose(score(kind, other, 'none')[1:].mean(), score(kind, other))
print('the two true classes alone:', round(score(F1Score, void, 'none')[1:].mean().item(), 3))
print('as described')
P
