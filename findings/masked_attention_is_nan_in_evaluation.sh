#!/usr/bin/env bash
# torch 2.15.0: nn.MultiheadAttention with a key_padding_mask that hides all keys of one picture (no pixel of the class that is asked for). What comes out for
# that picture depends on how the module is called, not on what it is given: in training, and in evaluation with gradients, the output is the
# projection's bias (attention gives zeros); in evaluation under no_grad a fused path gives NaN; need_weights=True (the default) gives NaN in all.
# A network that trains to the end on such pictures without a bad number is NaN in its first validation. scaled_dot_product_attention gives zeros.
# Seen: need_weights=False: train 0, train no_grad 0, eval 0, eval no_grad nan; need_weights=True: nan in all four; the function itself: 0, and finite gradients.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install torch==2.15.0 numpy==2.4.6 >/dev/null 2>&1
v/bin/python - <<'P'
import torch
torch.manual_seed(0)
attention, x = torch.nn.MultiheadAttention(16, 2, batch_first=True), torch.randn(2, 5, 16)
hidden = torch.tensor([[False]*5, [True]*5])
def largest(weights, train, grad):
    with torch.set_grad_enabled(grad): y = attention.train(train)(x, x, x, key_padding_mask=hidden, need_weights=weights)[0]
    assert y[0].isfinite().all() and y[0].abs().max() > 0
    return y[1].abs().max().item()
for weights, seen in ((False, ['0.0', '0.0', '0.0', 'nan']), (True, ['nan']*4)):
    found = [str(largest(weights, train, grad)) for train in (True, False) for grad in (True, False)]
    print(f'need_weights={weights}: train {found[0]}, train no_grad {found[1]}, eval {found[2]}, eval no_grad {found[3]}')
    assert found == seen
q = torch.randn(1, 2, 5, 8, requires_grad=True)
y = torch.nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=torch.zeros(5, 5, dtype=torch.bool))
y.sum().backward()
print('the function itself:', y.abs().max().item())
assert y.abs().max() == 0 and q.grad.isfinite().all()
print('as described')
P
