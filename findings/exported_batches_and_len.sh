#!/usr/bin/env bash
# torch 2.15.0: torch.export.export of `x.expand(len(y), -1)`, one style code for a batch of any size. With the default (strict=False) len() freezes the batch at the
# size of the example: a Dim is an error ("your code specialized it to be a constant"), which names neither len() nor the line, and with Dim.AUTO the
# export succeeds and the exported program takes that one size only. With strict=True the same line stays dynamic in all three, and with
# y.shape[0] in its place it does so either way: Python's len() must return a true int, and only strict tracing replaces it by the symbol.
# Seen, exported with 3 pictures, called with 5: len() and Dim: UserError; len() and Dim.AUTO: exported, AssertionError "y.size()[0] == 3" when called;
# len() and Dim.DYNAMIC: UserError; all three with strict=True: 5 pictures; y.shape[0]: 5 pictures in all six.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install torch==2.15.0 numpy==2.4.6 >/dev/null 2>&1
v/bin/python -W ignore - <<'P' 2>/dev/null
import torch
from torch.export import Dim, export
class Length(torch.nn.Module):
    def forward(self, x, y): return x.expand(len(y), -1)+y
class Shape(torch.nn.Module):
    def forward(self, x, y): return x.expand(y.shape[0], -1)+y
one, three, five = (torch.zeros(n, 4) for n in (1, 3, 5))
def outcome(kind, size, strict):
    "What an export with three pictures does with five."
    try: program = export(kind(), (one, three), dynamic_shapes=({}, {0: size}), strict=strict).module()
    except Exception as e: return f'not exported: {type(e).__name__}, specialized: {"specialized" in str(e)}'
    try: return f'{len(program(one, five))} pictures'
    except Exception as e: return f'exported, {type(e).__name__}: {str(e).splitlines()[0]}'
sizes = {'Dim': Dim('n'), 'Dim.AUTO': Dim.AUTO, 'Dim.DYNAMIC': Dim.DYNAMIC}
found = {(kind.__name__, name, strict): outcome(kind, size, strict) for kind in (Length, Shape) for name, size in sizes.items() for strict in (False, True)}
for k, v in found.items(): print(*k, v)
refused = 'not exported: UserError, specialized: True'
assert found.pop(('Length', 'Dim', False)) == refused and found.pop(('Length', 'Dim.DYNAMIC', False)) == refused
frozen = found.pop(('Length', 'Dim.AUTO', False))
assert frozen.startswith('exported, AssertionError') and 'y.size()[0] == 3' in frozen
assert set(found.values()) == {'5 pictures'} and len(found) == 9
print('as described')
P
