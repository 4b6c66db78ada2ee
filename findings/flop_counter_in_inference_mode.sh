#!/usr/bin/env bash
# torch 2.15.0: FLOPs of a network with torch's own spectral_norm cannot be counted in inference_mode. FlopCounterMode then raises
# AttributeError "'ParametrizedConv2d' object has no attribute 'weight'", although the weight is there; under no_grad it counts. The true error is hidden:
# the counter's module tracker asks every input that requires a gradient for its grad_fn, which is None in inference mode, and the
# parametrization's input is the weight itself. nn.Module's __getattr__ turns that AttributeError of a property into "no attribute".
# Seen: inference_mode alone: fine; no_grad and counter: 7776; inference_mode and counter: AttributeError ... no attribute 'weight';
# the parametrization by itself: AttributeError 'NoneType' object has no attribute 'next_functions'.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install torch==2.15.0 numpy==2.4.6 >/dev/null 2>&1
v/bin/python - <<'P'
import torch
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.flop_counter import FlopCounterMode
conv, x = spectral_norm(torch.nn.Conv2d(3, 4, 3)).eval(), torch.zeros(1, 3, 8, 8)
with torch.inference_mode(): conv(x)
print('inference_mode alone: fine')
with torch.no_grad(), FlopCounterMode(display=False) as counter: conv(x)
print('no_grad and counter:', counter.get_total_flops())
def complaint(f):
    try:
        with torch.inference_mode(), FlopCounterMode(display=False): f()
    except AttributeError as e: return str(e)
    raise SystemExit('counted: this has changed')
outer, inner = complaint(lambda: conv(x)), complaint(conv.parametrizations.weight)
print('inference_mode and counter:', outer)
print('the parametrization by itself:', inner)
assert "no attribute 'weight'" in outer and 'next_functions' in inner
print('as described')
P
