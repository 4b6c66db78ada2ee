#!/usr/bin/env bash
# torchmetrics 1.9.0, segmentation scores per class of a prediction that equals the truth, where a class is not in every picture (as people and cars in
# photos): GeneralizedDiceScore(per_class=True) gives that class the share of pictures that show it, as each picture without it counts as 0, so a
# perfect model never reaches 1 and rare classes look worst; its mean over classes is 1 all the same. For one picture without the class the same
# perfect prediction is nan for DiceScore(average='none'), 0 for GeneralizedDiceScore and -1 for MeanIoU(per_class=True). HausdorffDistance(input_format=
# 'index') raises RuntimeError for it, in a batch too whose other pictures have the class, and where only the prediction lacks it, its mean is inf.
# Seen, two pictures, class 2 in the second alone, prediction = truth: GeneralizedDiceScore 1, 1, .5 (as a mean 1); DiceScore and MeanIoU 1, 1, 1.
# The first picture alone: nan, 0 and -1 for class 2. HausdorffDistance: RuntimeError; class 1 missing in a prediction: inf.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install torchmetrics==1.9.0 torch==2.15.0 numpy==2.4.6 scipy==1.17.1 >/dev/null 2>&1
v/bin/python -W ignore - <<'P'
import math
import torch
from torchmetrics.segmentation import DiceScore, GeneralizedDiceScore, HausdorffDistance, MeanIoU
first = torch.zeros(1, 16, 16, dtype=torch.long)
first[:, 4:12, 4:12] = 1
second = first.clone()
second[:, :3] = 2
both = torch.cat([first, second])
scores = dict(dice=DiceScore(3, input_format='index', average='none'), generalized=GeneralizedDiceScore(3, input_format='index', per_class=True),
              iou=MeanIoU(3, input_format='index', per_class=True))
perfect = {name: score(both, both).tolist() for name, score in scores.items()}
alone = {name: score(first, first).tolist() for name, score in scores.items()}
mean = float(GeneralizedDiceScore(3, input_format='index')(both, both))
print('two pictures:', perfect, 'generalized as a mean:', mean)
print('the first alone:', alone)
assert perfect['generalized'] == [1, 1, .5] and mean == 1 and perfect['dice'] == perfect['iou'] == [1, 1, 1]
assert math.isnan(alone['dice'][2]) and alone['generalized'][2] == 0 and alone['iou'][2] == -1
for pictures in (first, both):
    try: HausdorffDistance(3, input_format='index')(pictures, pictures)
    except RuntimeError as e: print('Hausdorff distance:', str(e)[:60])
    else: raise SystemExit('Hausdorff distance of an absent class: no error')
missing = torch.zeros_like(first)
print('Hausdorff distance where the prediction lacks class 1:', float(HausdorffDistance(2, input_format='index')(missing, first)))
assert math.isinf(HausdorffDistance(2, input_format='index')(missing, first))
print('as described')
P
