"""Write README.md from nbs/index.ipynb: `python docs/readme.py` (or `make readme`); `--check` only says whether it is up to date."""
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]


def code_block(cell):
    "A code cell as Markdown: its source unless it says `#| echo: false`, what it printed, and its Markdown outputs."
    source = '\n'.join(line for line in cell.source.split('\n') if not line.startswith('#|')).strip()
    text = ''.join(o.get('text', '') for o in cell.outputs if o.output_type == 'stream' and o.name == 'stdout').rstrip()
    tables = [''.join(o.data['text/markdown']) for o in cell.outputs if 'text/markdown' in o.get('data', {})]
    parts = ['' if '#| echo: false' in cell.source else f'```python\n{source}\n```', f'```\n{text}\n```' if text else '', *tables]
    return '\n\n'.join(p for p in parts if p)


def readme():
    "The text of README.md."
    cells = nbformat.read(ROOT/'nbs'/'index.ipynb', as_version=4).cells
    parts = [c.source if c.cell_type == 'markdown' else code_block(c) for c in cells if '#| hide' not in c.source and c.source.strip()]
    text = '\n\n'.join(parts)
    text = re.sub(r'\]\((?=images/|\d{3}_[\w.]+\.ipynb)', '](nbs/', text).replace('src="images/', 'src="nbs/images/').replace('](../', '](')
    return '<!-- Written from nbs/index.ipynb by docs/readme.py: edit the notebook. -->\n\n' + text.strip() + '\n'


if __name__ == '__main__':
    path = ROOT/'README.md'
    if '--check' in sys.argv: sys.exit(0 if path.read_text(encoding='utf-8') == readme() else 'README.md differs from nbs/index.ipynb: run make readme')
    path.write_text(readme(), encoding='utf-8')
