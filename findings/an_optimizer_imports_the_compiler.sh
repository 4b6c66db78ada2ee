#!/usr/bin/env bash
# torch 2.15.0: the first optimizer of a process, any of torch.optim, imports torch._dynamo and with it hundreds of modules, though nothing is compiled:
# Optimizer.__init__ is wrapped so that the compiler leaves it alone, and the wrapper loads the compiler to say so. A program that trains for seconds
# (fits one photo, tunes a few vectors) or that only rebuilds an optimizer from a checkpoint pays for it as much as torch.compile does, in time and
# in memory. torch.autograd and a hand-written update do not.
# Seen: autograd and an update by hand: torch._dynamo absent; SGD(...) of one parameter: present, 890 modules more, 1.3 s of processor time, 149 MiB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install torch==2.15.0 numpy==2.4.6 psutil==7.2.2 >/dev/null 2>&1
v/bin/python -W ignore - <<'P'
import sys, time
import psutil, torch
p = torch.nn.Parameter(torch.ones(3))
p.square().sum().backward()
with torch.no_grad(): p -= .1*p.grad
assert 'torch._dynamo' not in sys.modules
print('backward and an update by hand: torch._dynamo absent')
modules, start, memory = len(sys.modules), time.process_time(), psutil.Process().memory_info().rss
torch.optim.SGD([p], .1)
more, seconds, grown = len(sys.modules)-modules, time.process_time()-start, (psutil.Process().memory_info().rss-memory)/2**20
print(f"SGD of one parameter: torch._dynamo {'present' if 'torch._dynamo' in sys.modules else 'absent'}, {more} modules more, {seconds:.1f} s, {grown:.0f} MiB")
assert 'torch._dynamo' in sys.modules and more > 300 and grown > 50
start = time.process_time()
torch.optim.Adam([p])
assert time.process_time()-start < .05
print('as described')
P
