#!/usr/bin/env bash
# safetensors 0.8.0 with torch 2.15.0: a network that was moved to channels_last (the usual setting for fast convolutions) cannot be saved by
# `save_file(model.state_dict(), …)`: ValueError, "non contiguous tensor", at the first convolution larger than 1x1. A network of 1x1 convolutions
# alone is saved, because such weights count as contiguous in both layouts; so a small test model passes and the real one fails, at the end of a
# training. `save_model` of the same package saves both. Loading gives the plain layout again: the network is slower until it is moved once more.
# Seen: 3x3 save_file: ValueError; 1x1 save_file: saved; 3x3 save_model: saved, and after load_model into a channels_last network its layout stays.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install torch==2.15.0 safetensors==0.8.0 numpy==2.4.6 >/dev/null 2>&1
v/bin/python - <<'P'
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
def network(side): return torch.nn.Conv2d(8, 8, side).to(memory_format=torch.channels_last)
def is_last(t): return t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous()
try: save_file(network(3).state_dict(), 'a.safetensors')
except ValueError as e: print('3x3 save_file:', str(e)[:60])
else: raise SystemExit('saved: this has changed')
save_file(network(1).state_dict(), 'b.safetensors')
print('1x1 save_file: saved')
save_model(network(3), 'c.safetensors')
print('3x3 save_model: saved, stored as channels_last:', is_last(load_file('c.safetensors')['weight']))
assert not is_last(load_file('c.safetensors')['weight'])
other = network(3)
load_model(other, 'c.safetensors')
print('after load_model into a channels_last network:', is_last(other.weight))
assert is_last(other.weight)
print('as described')
P
