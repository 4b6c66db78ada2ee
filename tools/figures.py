"""How the package is cut, in figures: `python tools/figures.py` (or `make figures`) measures this tree and prints it beside an earlier one.

    python tools/figures.py --tree OLD_CHECKOUT --as before --seconds 1234     an earlier tree, flat or in rooms; what its `make test` took
    python tools/figures.py --seconds 567                                      this tree

Both are kept in results/figures.json. How things are counted: a room is a folder of `msca/`, or in a flat tree ten numbers of notebooks.
A function's length is that of its body, without signature and docstring. Private definitions are functions and classes.
Repeated code: four lines in a row, apart from imports, that stand in notebooks, tests or benchmarks more than once.
Seconds of `make test` are wall time on two cores, after installation.
"""
import argparse
import ast
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from style import LIMIT, long_lines, pieces, plain

ROOT = Path(__file__).parents[1]
RESULTS = ROOT/'results'/'figures.json'
WINDOW = 4  # lines that count as repeated when they stand in two places


# ---- reading ------------------------------------------------------------------------------------------------------------

def notebooks(tree:Path) -> dict:
    "Module ('attention' or 'model.attention') → its notebook, of all that export one."
    exporting = [p for p in sorted((tree/'nbs').glob('[0-9]*.ipynb')) if 'default_exp' in p.read_text(encoding='utf-8')]
    return {re.sub(r'^\d+_', '', p.stem): p for p in exporting}


def modules(tree:Path) -> dict:
    "Module → its syntax tree."
    return {name: ast.parse((tree/'msca'/f"{name.replace('.', '/')}.py").read_text(encoding='utf-8')) for name in notebooks(tree)}


def room(path:Path) -> str:
    "The room of a notebook: its module's folder, or ten numbers of a flat tree."
    number, name = path.stem.split('_', 1)
    return name.split('.')[0] if '.' in name else f'{int(number)//10}0–{int(number)//10}9'


def code_cells(tree:Path, where:tuple=('nbs/*.ipynb', 'tests/*.py', 'benchmarks/*.py')) -> dict:
    "Place (notebook's or file's name) → sources of its code."
    return {p.name: [source for _, source, kind in pieces(p) if kind in ('code', 'file')] for pattern in where
            for p in sorted(tree.glob(pattern))}


# ---- counting -----------------------------------------------------------------------------------------------------------

def definitions(tree:ast.Module, private:bool) -> list:
    "Names of the functions and classes at the top of a module that are private, or that are not."
    return [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name.startswith('_') == private]


def exported(tree:ast.Module) -> list:
    "A module's `__all__`."
    return next((ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == '__all__'), [])


def lengths(tree:ast.Module) -> list:
    "Lines of the body of every function and method."
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    bodies = [n.body[1:] if ast.get_docstring(n) is not None and len(n.body) > 1 else n.body for n in functions]
    return [body[-1].end_lineno-body[0].lineno+1 for body in bodies]


def bare_lines(source:str) -> list:
    "Lines that are code and no import, without indentation and comments."
    lines = (re.sub(r'\s+#.*', '', line).strip() for line in source.split('\n'))
    return [line for line in lines if len(line) > 3 and not line.startswith(('#', 'import ', 'from ', '"""'))]


def repeated_lines(tree:Path) -> int:
    "How many lines stand in a run of at least four that is somewhere else too."
    seen, texts = defaultdict(set), [bare_lines(s) for cells in code_cells(tree).values() for s in cells]
    for t, lines in enumerate(texts):
        for i in range(len(lines)-WINDOW+1): seen[tuple(lines[i:i+WINDOW])].add((t, i))
    places = {(t, i+k) for found in seen.values() if len(found) > 1 for t, i in found for k in range(WINDOW)}
    return len(places)


def repeated_helpers(tree:Path) -> dict:
    "Name → number of places, of functions that at least three notebooks or test files define."
    found = Counter()
    for cells in code_cells(tree, ('nbs/*.ipynb', 'tests/*.py')).values():
        tops = [n for s in cells for n in ast.parse(plain(s)).body]
        found.update({n.name for n in tops if isinstance(n, ast.FunctionDef) and not n.name.startswith('test_')})
    return {name: n for name, n in found.most_common() if n > 2}


def lines_over(tree:Path) -> dict:
    "Lines of code and of prose that are longer than they may be."
    cells = [piece for p in (tree/'nbs').glob('*.ipynb') for piece in pieces(p)]
    return dict(code=sum(len(line) > LIMIT for _, s, kind in cells if kind == 'code' for line in s.split('\n')),
                prose=sum(len(long_lines(s)) for _, s, kind in cells if kind == 'markdown'))


def spread(values:list) -> dict:
    "Where numbers lie."
    return dict(median=float(np.median(values)), p90=float(np.quantile(values, .9)), max=max(values))


def measure(tree:Path) -> dict:
    "Every figure of a tree."
    books, parsed = notebooks(tree), modules(tree)
    names = {m: len(exported(t)) for m, t in parsed.items()}
    cells = {m: sum(1 for _ in pieces(p)) for m, p in books.items()}
    private = {m: len(definitions(t, True)) for m, t in parsed.items()}
    size = [n for t in parsed.values() for n in lengths(t)]
    return dict(
        modules_per_room=dict(Counter(room(p) for p in books.values())),
        names_per_notebook=dict(spread(list(names.values())), above_8=sum(n > 8 for n in names.values()),
                                above_12={m: n for m, n in names.items() if n > 12}),
        cells_per_notebook=dict(spread(list(cells.values())), below_25={m: n for m, n in cells.items() if n < 25},
                                above_50={m: n for m, n in cells.items() if n > 50}),
        function_lines=dict(spread(size), functions=len(size), above_40=sum(n > 40 for n in size)),
        private_definitions=dict(spread(list(private.values())), largest=max(private, key=private.get)),
        repeated_lines=repeated_lines(tree), repeated_helpers=repeated_helpers(tree), lines_over_the_limit=lines_over(tree))


# ---- the table ----------------------------------------------------------------------------------------------------------

def row(f:dict) -> dict:
    "A tree's figures as the table shows them."
    def three(d): return f"{d['median']:g} / {d['p90']:g} / {d['max']:g}"
    def count(d): return f"{d['functions']}, {d['above_40']} above 40" if 'functions' in d else ''
    rooms, names, cells, size, private = (f[k] for k in ('modules_per_room', 'names_per_notebook', 'cells_per_notebook', 'function_lines',
                                                         'private_definitions'))
    helpers = f['repeated_helpers']
    return {
        'modules': f"{sum(rooms.values())} in {len(rooms)} rooms",
        'modules per room': ', '.join(f'{k} {v}' for k, v in rooms.items()),
        'names per notebook (median / p90 / max)': f"{three(names)}; {names['above_8']} above 8, {len(names['above_12'])} above 12",
        'cells per notebook': f"{three(cells)}; {len(cells['below_25'])} below 25, {len(cells['above_50'])} above 50",
        'lines per function': f"{three(size)} ({count(size)})",
        'private definitions per module': f"{three(private)} ({private['largest']})",
        'repeated lines': f['repeated_lines'],
        'helpers that stand in three places or more': f"{len(helpers)}: " + ', '.join(f'{k} ×{v}' for k, v in list(helpers.items())[:8]),
        f'lines over {LIMIT} characters': f"{f['lines_over_the_limit']['code']} of code, {f['lines_over_the_limit']['prose']} of prose",
        'seconds of make test': f.get('seconds_of_make_test', 'not measured')}


def table(kept:dict) -> str:
    "Markdown, a column per tree."
    rows = {name: row(f) for name, f in kept.items()}
    lines = [['', *rows], ['---']*(1+len(rows))] + [[k, *(r[k] for r in rows.values())] for k in next(iter(rows.values()))]
    return '\n'.join('| '+' | '.join(map(str, line))+' |' for line in lines)


def main():
    "Measure, keep, print."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tree', type=Path, default=ROOT, help='the checkout to measure (this one)')
    parser.add_argument('--as', dest='name', default='after', help='its column (after)')
    parser.add_argument('--seconds', type=float, help='what its make test took, in seconds; otherwise what was noted before')
    args = parser.parse_args()
    kept = json.loads(RESULTS.read_text(encoding='utf-8')) if RESULTS.is_file() else {}
    seconds = args.seconds or kept.get(args.name, {}).get('seconds_of_make_test')
    kept[args.name] = measure(args.tree) | (dict(seconds_of_make_test=seconds) if seconds else {})
    RESULTS.write_text(json.dumps(dict(sorted(kept.items(), reverse=True)), indent=1, ensure_ascii=False)+'\n', encoding='utf-8')
    print(table(dict(sorted(kept.items(), reverse=True))))


if __name__ == '__main__': main()
