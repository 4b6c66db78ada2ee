"""What ruff does not look at: `python tools/style.py` says it, with `--fix` mends it (then `nbdev-export`).

Prose in notebooks and Markdown files has lines of at most 140 characters; tables, equations, code, links and HTML are left alone.
Annotations are written as fastai writes them, `name:type`, without a space. A notebook's cell never leaves two lines empty.
"""
import argparse
import ast
import json
import re
import sys
import textwrap
from pathlib import Path

ROOT, LIMIT = Path(__file__).parents[1], 140
TEXTS = 'CHANGELOG.md', 'CONTRIBUTING.md', 'benchmarks/*.md', 'docs/*.md'  # README.md and the model cards are written by programs
CODE = 'benchmarks/*.py', 'docs/*.py', 'tests/*.py', 'tools/*.py', 'setup.py'
UNBREAKABLE = re.compile(r'(?:`[^`]*`|\$[^$]+\$|\]\([^)]*\)|\S)+')  # a word, with the code, formula or link in it
LEADS = re.compile(r'[-+*>#|=]|\d+[.)]$')  # what would mean something else at the beginning of a line
ITEM = re.compile(r'\s*(?:[-+*]|\d+[.)])\s+|\s*')


# ---- prose --------------------------------------------------------------------------------------------------------------

def blocks(text:str) -> list:
    "Markdown as a list of (lines, whether they are prose): one paragraph or item each."
    found, verbatim = [], None
    for line in text.split('\n'):
        fence = next((f for f in ('```', '$$') if line.strip().startswith(f) and (f == '```' or line.strip().count(f) == 1)), None)
        inside, verbatim = verbatim, (None if fence == verbatim else verbatim) if verbatim else fence
        prose = not (inside or fence) and not re.match(r'\s*($|#|\||<|>|\$\$|!\[|\[[^]]*\]:)', line)
        goes_on = prose and found and found[-1][1] and not re.match(r'\s*(?:[-+*]|\d+[.)])\s', line) and not found[-1][0][-1].endswith('  ')
        if goes_on: found[-1][0].append(line)
        else: found.append(([line], prose))
    return found


def wrap(lines:list) -> list:
    "A paragraph or item in lines of at most the limit, broken between words only."
    lead = ITEM.match(lines[0])[0]
    words = UNBREAKABLE.findall(' '.join([lines[0][len(lead):], *lines[1:]]))
    out, line = [], lead+words[0]
    for word in words[1:]:
        if len(line)+1+len(word) > LIMIT and not LEADS.match(word): line = out.append(line) or ' '*len(lead)+word
        else: line += ' '+word
    end = '  ' if lines[-1].endswith('  ') else ''
    return [*out, line+end]


def mended_prose(text:str) -> str:
    "The text with every paragraph wrapped that has a line over the limit."
    return '\n'.join(line for lines, prose in blocks(text) for line in (wrap(lines) if prose and max(map(len, lines)) > LIMIT else lines))


def long_lines(text:str) -> list:
    "(number, length) of lines over the limit that could be shorter."
    wanted = mended_prose(text)
    if wanted == text: return []
    return [(i, len(line)) for i, line in enumerate(text.split('\n'), 1) if len(line) > LIMIT]


# ---- code: empty lines and annotations ---------------------------------------------------------------------------------

def doubled_lines(source:str) -> list:
    "Numbers of empty lines that follow another one, outside of texts."
    texts = [n for n in ast.walk(ast.parse(plain(source))) if isinstance(n, (ast.Constant, ast.JoinedStr)) and n.end_lineno > n.lineno]
    inside = {i for n in texts for i in range(n.lineno, n.end_lineno+1)}
    lines = source.split('\n')
    return [i for i in range(2, len(lines)+1) if not lines[i-1].strip() and not lines[i-2].strip() and i not in inside]


def plain(source:str) -> str:
    "A cell's source as Python: magics blanked."
    return '\n'.join('pass' if line.startswith(('%', '!')) else line for line in source.split('\n'))


def annotations(source:str) -> list:
    "(line from 1, byte where its annotation's colon stands) of every name with an annotation."
    found = []
    for node in ast.walk(ast.parse(plain(source))):
        if isinstance(node, ast.arg) and node.annotation: found.append((node.lineno, node.col_offset+len(node.arg.encode())))
        if isinstance(node, ast.AnnAssign) and node.simple: found.append((node.lineno, node.target.end_col_offset))
    return found


def spaced_annotations(source:str) -> list:
    "Places where a space follows the colon."
    lines = [line.encode() for line in source.split('\n')]
    return [(n, at) for n, at in annotations(source) if lines[n-1][at:at+2] == b': ']


def mended_annotations(source:str) -> str:
    "The source without spaces after the colons of annotations."
    lines = [line.encode() for line in source.split('\n')]
    for n, at in sorted(spaced_annotations(source), reverse=True): lines[n-1] = lines[n-1][:at+1]+lines[n-1][at+1:].lstrip(b' ')
    return b'\n'.join(lines).decode()


def mended_cell(source:str) -> str:
    "A notebook's code with annotations and empty lines as they should be."
    drop, lines = {*doubled_lines(source)}, mended_annotations(source).split('\n')
    return '\n'.join(line for i, line in enumerate(lines, 1) if i not in drop)


# ---- files --------------------------------------------------------------------------------------------------------------

def complaints(source:str, kind:str) -> list:
    "What is wrong with a piece of prose ('markdown'), a notebook's cell ('code') or a file ('file'), as (line, text)."
    if kind == 'markdown': return [(n, f'prose line of {length} characters, at most {LIMIT}') for n, length in long_lines(source)]
    spaces = [(n, 'annotation with a space: write name:type') for n, _ in spaced_annotations(source)] if kind in ('code', 'file') else []
    return spaces + [(n, 'a second empty line') for n in doubled_lines(source)] if kind == 'code' else spaces


def mended(source:str, kind:str) -> str:
    "The piece as it should be."
    return dict(markdown=mended_prose, code=mended_cell, file=mended_annotations).get(kind, str)(source)


def pieces(path:Path):
    "(where, source, kind) of a file's cells, or of the whole file."
    if path.suffix != '.ipynb':
        yield '', path.read_text(encoding='utf-8'), 'markdown' if path.suffix == '.md' else 'file'
        return
    for i, cell in enumerate(json.loads(path.read_text(encoding='utf-8'))['cells']):
        yield f'cell {i}:', ''.join(cell['source']), cell['cell_type']


def mend(path:Path):
    "Write a file anew."
    if path.suffix != '.ipynb': return path.write_text(mended(*next((s, k) for _, s, k in pieces(path))), encoding='utf-8')
    notebook = json.loads(path.read_text(encoding='utf-8'))
    for cell in notebook['cells']: cell['source'] = mended(''.join(cell['source']), cell['cell_type']).splitlines(keepends=True)
    path.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False)+'\n', encoding='utf-8')


def files() -> list:
    "All that people write."
    return sorted({*(ROOT/'nbs').rglob('*.ipynb'), *(p for pattern in (*TEXTS, *CODE) for p in ROOT.glob(pattern))})


def main() -> int:
    "Say what is wrong, or mend it."
    parser = argparse.ArgumentParser(description=textwrap.dedent(__doc__.replace('%', '%%')))
    parser.add_argument('paths', nargs='*', type=Path, help='files; all when none is named')
    parser.add_argument('--fix', action='store_true', help='write the files anew')
    args = parser.parse_args()
    found = [(path, f'{where}{n}: {what}') for path in args.paths or files() for where, source, kind in pieces(path) for n,
             what in complaints(source, kind)]
    if args.fix:
        for path in {p for p, _ in found}: mend(path)
        return 0
    for path, what in found: print(f'{path.resolve().relative_to(ROOT)}:{what}')
    return bool(found)


if __name__ == '__main__': sys.exit(main())
