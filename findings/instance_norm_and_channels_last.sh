#!/usr/bin/env bash
# torch 2.15.0: InstanceNorm2d gives a contiguous result for a channels_last picture, though convolutions, BatchNorm2d, GroupNorm, activations, paddings,
# pooling and interpolation keep the layout. A network in channels_last with instance norm therefore changes its layout at every norm and back
# at the next convolution. GroupNorm with one channel a group computes the same numbers and keeps the layout.
# F.grid_sample and circular padding lose it too; reflection, replication and zero padding do not.
# Seen: kept by BatchNorm2d, GroupNorm, ReflectionPad2d, Upsample, PixelShuffle; lost by InstanceNorm2d, CircularPad2d, grid_sample; GroupNorm(8, 8)
# and InstanceNorm2d(8) differ by less than 1e-5.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install torch==2.15.0 numpy==2.4.6 >/dev/null 2>&1
v/bin/python - <<'P'
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(2, 8, 16, 16).to(memory_format=torch.channels_last)
def keeps(f): return f(x).is_contiguous(memory_format=torch.channels_last)
kept = [nn.BatchNorm2d(8), nn.GroupNorm(8, 8), nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.Upsample(scale_factor=2, mode='bilinear'), nn.PixelShuffle(2)]
lost = [nn.InstanceNorm2d(8), nn.InstanceNorm2d(8, affine=True), nn.InstanceNorm2d(8, track_running_stats=True), nn.CircularPad2d(1)]
for module in kept+lost: print(type(module).__name__, 'keeps' if keeps(module) else 'loses')
assert all(map(keeps, kept)) and not any(map(keeps, lost))
assert not keeps(lambda x: nn.functional.grid_sample(x, torch.zeros(2, 4, 4, 2), align_corners=False))
difference = (nn.GroupNorm(8, 8)(x)-nn.InstanceNorm2d(8)(x)).abs().max().item()
print('GroupNorm(8, 8) and InstanceNorm2d(8) differ by', difference)
assert difference < 1e-5
print('as described')
P
