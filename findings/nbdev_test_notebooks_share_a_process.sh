#!/usr/bin/env bash
# nbdev 3.3.26: `nbdev-test --n-workers 2` runs many notebooks in one process, one after another, and clears only their variables. What a cell changes
# elsewhere (a registry in an imported module, a warning filter, an environment variable) meets the next notebook of that worker. Which notebooks
# these are depends on how long the others take: a suite that passes on one machine fails on a slower one, and every notebook passes alone.
# Seen: b.ipynb alone: Success. a.ipynb and b.ipynb with one worker process for both: b fails, since a had left an attribute in a module of the library.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install nbdev==3.3.26 ipykernel >/dev/null 2>&1
mkdir nbs lib; touch lib/__init__.py
printf '[project]\nname = "lib"\nversion = "0.0.1"\n[tool.nbdev]\nlib_path = "lib"\nnbs_path = "nbs"\n' > pyproject.toml
cat > write.py <<'P'
import json
def notebook(name, source):
    cell = dict(cell_type='code', id=name, execution_count=None, metadata={}, outputs=[], source=source)
    meta = dict(kernelspec=dict(name='python3', display_name='python3', language='python'))
    json.dump(dict(cells=[cell], metadata=meta, nbformat=4, nbformat_minor=5), open(f'nbs/{name}.ipynb', 'w'))
notebook('a', 'import colorsys\ncolorsys.left_by_a = True')
notebook('b', 'import colorsys\nassert not hasattr(colorsys, "left_by_a")')
P
v/bin/python write.py
export PATH="$work/v/bin:$PATH"
nbdev-test nbs/b.ipynb 2>&1 | tee alone.txt | tail -1
grep -q Success alone.txt
if nbdev-test --n-workers 1 > both.txt 2>&1; then echo 'b passed after a: this has changed'; exit 1; fi
grep -A2 'Failed On The Following' both.txt | tail -1
grep -q 'b.ipynb' both.txt
echo 'as described'
