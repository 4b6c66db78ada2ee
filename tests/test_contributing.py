"The worked examples of CONTRIBUTING.md run as they stand there."
import re
from pathlib import Path

from msca.model.synthesizer import VARIANTS

ROOT = Path(__file__).parents[1]


def test_the_worked_examples_run():
    blocks = re.findall(r'```python\n(.*?)```', (ROOT/'CONTRIBUTING.md').read_text(encoding='utf-8'), re.S)
    assert len(blocks) == 4
    names = {}
    try:
        for i, block in enumerate(blocks): exec(compile(block, f'CONTRIBUTING.md, block {i+1}', 'exec'), names)
        assert names['edges'].name == 'edges' and VARIANTS['half-open'].model is names['HalfOpenSynthesizer']
    finally: VARIANTS.pop('half-open', None)
