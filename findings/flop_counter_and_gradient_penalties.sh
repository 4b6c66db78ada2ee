#!/usr/bin/env bash
# torch 2.15.0: FlopCounterMode cannot count a step with a gradient penalty (R1, path length): torch.autograd.grad with respect to a picture made with
# requires_grad_() raises RuntimeError "A leaf node was passed to _will_engine_execute_node but we are currently running autograd.grad()". The same
# step runs without the counter; backward() is counted, and so is autograd.grad with respect to a view of that picture (x.view_as(x)). The
# counter's module tracker hooks every input of a module, and a hook on a leaf asks the engine a question that it does not answer for autograd.grad.
# Seen, of a 3x3 convolution of 8x8 pixels: forward alone 10368; a leaf: RuntimeError; a view of it: 20736; backward() of the leaf: 31104.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install torch==2.15.0 numpy==2.4.6 >/dev/null 2>&1
v/bin/python - <<'P'
import torch
from torch.utils.flop_counter import FlopCounterMode
conv = torch.nn.Conv2d(3, 3, 3, padding=1)
def penalty(x): return torch.autograd.grad(conv(x).sum(), x)[0].square().mean()
def leaf(): return torch.randn(1, 3, 8, 8).requires_grad_()
def count(f):
    with FlopCounterMode(display=False) as counter: f()
    return counter.get_total_flops()
assert penalty(leaf()) > 0
print('forward alone:', count(lambda: conv(leaf())))
try: count(lambda: penalty(leaf()))
except RuntimeError as e: said = str(e)
else: raise SystemExit('counted: this has changed')
print('a leaf:', said)
assert 'leaf node' in said and 'autograd.grad()' in said
def view():
    x = leaf()
    return penalty(x.view_as(x))
forward, of_view, of_backward = count(lambda: conv(leaf())), count(view), count(lambda: conv(leaf()).sum().backward())
print('a view of it:', of_view, 'backward() of the leaf:', of_backward)
assert (forward, of_view, of_backward) == (10368, 20736, 31104)
print('as described')
P
