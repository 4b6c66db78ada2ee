#!/usr/bin/env bash
# An ONNX graph of 64-bit integers, run by OpenVINO 2026.4.1 on a processor: the result is still called int64, and is computed in 32 bits; Mod and Div
# even go through float32, so they are wrong from 2**24 on. No warning. What hashes a pixel's position into noise, counts large sets or packs two ids
# into one number gives other values than ONNX Runtime 1.32.0, which is exact; only up to 2**24 do the two agree.
# Seen, for 3, 65536 and 2**31+5: times 73856093 mod 2**31-1 gives 221568279, 1952254157, 443136558 in ONNX Runtime
# and 221568272, 1952251904, 369280512 in OpenVINO; plus 1 the last gives 2147483654 and -2147483642.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 >/dev/null 2>&1
v/bin/python - <<'P'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
def graph(*steps):
    constants = [numpy_helper.from_array(np.array(n, np.int64), f'n{i}') for i, (_, n) in enumerate(steps)]
    nodes = [helper.make_node(op, [f'x{i}', f'n{i}'], [f'x{i+1}']) for i, (op, _) in enumerate(steps)]
    ends = [helper.make_tensor_value_info(name, TensorProto.INT64, [None]) for name in ('x0', f'x{len(steps)}')]
    model = helper.make_model(helper.make_graph(nodes, 'g', ends[:1], ends[1:], constants), opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()
def both(x, *steps):
    model, x, core = graph(*steps), np.array(x, np.int64), openvino.Core()
    exact = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider']).run(None, {'x0': x})[0]
    other = core.compile_model(core.read_model(model), 'CPU')(x)[0]
    print(*steps, exact.tolist(), other.tolist(), other.dtype)
    assert other.dtype == np.int64
    return exact.tolist(), other.tolist()
hashed, large, small = (('Mul', 73856093), ('Mod', 2**31-1)), (3, 65536, 2**31+5), (1, 1000, 2**24-1)
exact, other = both(large, *hashed)
assert exact == [n*73856093 % (2**31-1) for n in large] and all(a != b for a, b in zip(exact, other))
assert both(large, ('Add', 1))[1] == [4, 65537, -2147483642]
exact, other = both((306783379*7,), ('Div', 7))
assert exact == [306783379] != other
for step in (('Add', 0), ('Mod', 4099), ('Div', 7)): assert len({str(r) for r in both(small, step)}) == 1
print('as described')
P
