#!/usr/bin/env bash
# torch 2.15.0 on a processor: torch.compile cannot train a network that pads by replication between two convolutions (the padding that keeps generators' borders clean).
# The backward kernel of replication_pad2d returns its gradient in the memory format of the input (channels-last, which compiled convolutions have), its shape function
# promises plain strides, and the compiled backward stops at an assertion about strides that blames "a custom op". The forward alone works, and so do zeros and
# reflection in place of replication. Uncompiled training is not concerned.
# Seen: 'replicate' forward agrees, backward AssertionError ("expected size 8==8, stride 1==256"); 'reflect' and 'constant' agree in both; strides of the gradient
# of a channels-last input: (2048, 1, 128, 8) from the kernel, (2048, 256, 16, 1) promised.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
command -v g++ >/dev/null || { echo "needs a C++ compiler, as torch.compile does"; exit 1; }
python3 -m venv v && v/bin/pip -q install torch==2.15.0 numpy==2.4.6 setuptools==80.9.0 >/dev/null 2>&1
cat > probe.py <<'P'
import torch
from torch import nn

def network(mode): return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1, padding_mode={'constant': 'zeros'}.get(mode, mode)))

for mode in 'constant', 'reflect', 'replicate':
    torch._dynamo.reset()
    torch.manual_seed(0)
    plain = network(mode)
    compiled, x = torch.compile(plain), torch.randn(2, 8, 16, 16)
    with torch.no_grad(): assert torch.allclose(plain(x), compiled(x), atol=1e-5)
    x.requires_grad_()
    right, = torch.autograd.grad(plain(x).square().mean(), x)
    try:
        found, = torch.autograd.grad(compiled(x).square().mean(), x)
        assert torch.allclose(found, right, atol=1e-6)
        said = 'agrees'
    except AssertionError as e:
        assert 'stride' in str(e) and 'replication_pad2d_backward' in str(e), e
        said = f'AssertionError: {str(e)[:37]}'
    print(f'{mode}: forward agrees, backward {said}')
    assert ('Error' in said) == (mode == 'replicate')
grad, x = [torch.zeros(2, 8, n, n).to(memory_format=torch.channels_last) for n in (18, 16)]
given, promised = (torch.ops.aten.replication_pad2d_backward(g, x.to(g.device), (1, 1, 1, 1)).stride() for g in (grad, grad.to('meta')))
print(f'strides of the gradient: {given} from the kernel, {promised} promised')
assert given == (2048, 1, 128, 8) and promised == (2048, 256, 16, 1)
print('as described')
P
v/bin/python -W ignore probe.py
