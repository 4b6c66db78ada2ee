#!/usr/bin/env bash
# torch 2.15.0: torch.autocast(x.device.type, enabled=False), the way to keep a softmax in float32, works on every device, present or not
# (cpu, cuda, mps, xpu), and raises RuntimeError "unsupported scalarType" on meta. A model with that line runs everywhere but where its
# weights, shapes and FLOPs are counted without memory. is_autocast_available('meta') is False, but so a device type without autocast can
# be told before; switching on says another thing ("User specified an unsupported autocast device_type 'meta'").
# Seen: cpu, cuda, mps, xpu: switched off; meta: unsupported scalarType; nullcontext where is_autocast_available says no: counted, 1x8.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install torch==2.15.0 numpy==2.4.6 >/dev/null 2>&1
v/bin/python -W ignore - <<'P'
from contextlib import nullcontext
import torch
from torch.amp.autocast_mode import is_autocast_available
for device in ('cpu', 'cuda', 'mps', 'xpu'):
    with torch.autocast(device, enabled=False): pass
    print(device, 'switched off')
x = torch.zeros(1, 8, device='meta')
try:
    with torch.autocast(x.device.type, enabled=False): x.float().softmax(1)
    raise SystemExit('meta works: this has changed')
except RuntimeError as e: said = str(e)
print('meta:', said)
assert said == 'unsupported scalarType' and not is_autocast_available('meta')
with torch.autocast('meta', enabled=False) if is_autocast_available('meta') else nullcontext(): print('counted:', tuple(x.softmax(1).shape))
print('as described')
P
