"""Build the documentation site: `python docs/site.py` (or `make docs`). No network and no Quarto are needed.

Sources are gathered in `_site/source`: the pages of `docs/pages`, every notebook under its room with its saved outputs, and a reference that is
read from the package (docstrings, parameter comments, the command line). Sphinx, MyST-NB and furo make `_site/html` of them; a warning is an error.
"""
import argparse
import importlib
import inspect
import json
import re
import shutil
import sys
from functools import reduce
from importlib.metadata import distribution
from pathlib import Path

import nbformat
from fastcore.docments import docments
from sphinx.cmd.build import build_main

DOCS = Path(__file__).parent
ROOT, PAGES = DOCS.parent, DOCS/'pages'
OUT = ROOT/'_site'
MODELS = ROOT/'msca'/'pretrained_models'
SOURCE = OUT/'source'
ROOMS = dict(base='what everything stands on', data='photos and their label maps', model='the networks', learning='how they are trained',
             evidence='how they are measured', steering='what a trained model can be asked', app='widgets', relatives='ablations and other systems',
             pretrained='shipped models, and `Synthesizer`', commands='the command line')
LABORATORY = {'480_evidence.shipped': 'The shipped model: what it does, and where it fails',
              '470_evidence.table1': 'Table 1 again: the comparison of the paper, at the scale of minutes',
              '472_evidence.relatives': 'The relatives, trained alike',
              '474_evidence.class_models': 'SEAN and GroupDNet, trained on photos',
              '463_evidence.series': 'A series of trainings', '466_evidence.orderings': 'Orderings: which differences are more than chance',
              '435_evidence.references': 'References: what a number is worth'}

# Notebooks


def is_test(source):
    "Whether a cell only imports or checks, so that it is folded away."
    lines = [l for l in source.splitlines() if l and not l.startswith((' ', ')', '#'))]
    return bool(lines) and all(re.match(r'(test_\w+\(|assert |from |import |with (tempfile|warnings|mock|redirect))', l) for l in lines)


def alternative(markdown, title):
    "Words for a picture: the heading and the sentence before it."
    text = re.sub(r'\$[^$]*\$|[`*_\[\]>#]|\(\S+\.ipynb\S*\)', '', markdown.split('```')[0])
    sentences = re.findall(r'[^.!?]+[.!?:]', ' '.join(text.split('\n\n')[-1].split()))
    return ' '.join(f"{title}: {sentences[-1].strip() if sentences else 'picture'}".replace('"', "'").split())


def as_page(path):
    "A notebook as the site shows it: no directives, checks folded, alternative text at every picture."
    nb = nbformat.read(path, as_version=4)
    title, before, cells = path.stem, '', []
    for cell in nb.cells:
        if '#| hide' in cell.source or '#| default_exp' in cell.source: continue
        if cell.cell_type == 'markdown':
            before = cell.source
            title = (re.findall(r'^#+ (.+)', cell.source, re.M) or [title])[-1]
        else: show_code(cell, alternative(before, title))
        if folded(cell) and cells and folded(cells[-1]): cells[-1].source += f'\n\n{cell.source}'
        else: cells.append(cell)
    nb.cells = cells
    nb.metadata.kernelspec = dict(name='python3', display_name='Python 3', language='python')
    nb.metadata.language_info = dict(name='python')
    return nb


def folded(cell):
    "Whether a cell is folded away and shows nothing."
    return 'hide-input' in cell.metadata.get('tags', []) and not cell.outputs


def show_code(cell, words):
    "Directives become tags, two forms of one picture become one, pictures get words."
    tags = ['remove-input'] if '#| echo: false' in cell.source else ['hide-input'] if is_test(cell.source) else []
    if all(line.startswith(('!', '%')) for line in cell.source.splitlines()): tags.append('shell')
    if re.search(r'^#\| (slow|eval: false)', cell.source, re.M): cell.outputs = []
    cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip('\n')
    for o in cell.outputs:
        if {'image/jpeg', 'image/png'} <= set(o.get('data', {})): del o.data['image/jpeg' if len(o.data['image/jpeg']) > len(o.data['image/png']) else 'image/png']
    cell.metadata = nbformat.NotebookNode(tags=tags, mystnb=dict(image=dict(alt=words)))


def write_notebooks():
    "Every numbered notebook under its room, and a page for each room."
    folder = SOURCE/'notebooks'
    folder.mkdir(parents=True)
    by_room = {room: [p for p in sorted((ROOT/'nbs').glob('[0-9]*.ipynb')) if p.stem[4:].split('.')[0] == room] for room in ROOMS}
    for path in sum(by_room.values(), []): nbformat.write(as_page(path), folder/path.name)
    for room, paths in by_room.items():
        (folder/f'{room}.md').write_text(f"# {room.capitalize()}\n\n{ROOMS[room][0].upper()}{ROOMS[room][1:]}.\n\n" + toctree([p.stem for p in paths]))
    shutil.copytree(ROOT/'nbs'/'images', folder/'images')
    rows = '\n'.join(f'| [{room}]({room}.md) | {told} | {len(by_room[room])} |' for room, told in ROOMS.items())
    (folder/'index.md').write_text("# Notebooks\n\nThe source of the package: each notebook explains, defines, tests and shows one part. Numbers are the reading order.\n\n"
                                   f"| room | what | notebooks |\n|---|---|---|\n{rows}\n\n{toctree(list(ROOMS), hidden=True)}")


def write_tutorials():
    "The tutorials, with the badge as a link: pages load nothing from elsewhere."
    folder, titles = SOURCE/'tutorials', {}
    folder.mkdir(parents=True)
    for path in sorted((DOCS/'tutorials').glob('*.ipynb')):
        nb = as_page(path)
        for cell in nb.cells:
            if cell.cell_type != 'markdown': continue
            linked = re.sub(r'\[!\[([^\]]*)\]\([^)]*\)\]', r'[\1]', cell.source)
            cell.source = relink(linked.replace('](../../nbs/images/', '](../notebooks/images/'))
        nb.cells[1].metadata = nbformat.NotebookNode(tags=['hide-input'], mystnb=dict(code_prompt_show='Installation', code_prompt_hide='Installation'))
        nb.metadata.language_info = dict(name='python', pygments_lexer='ipython3')  # lines that begin with ! or %
        nbformat.write(nb, folder/path.name)
        titles[path.stem] = ' '.join(nb.cells[0].source.split('\n\n')[-1].split())
    rows = '\n'.join(f'- [{nbformat.read(folder/f"{name}.ipynb", as_version=4).cells[0].source.splitlines()[0][2:]}]({name}.ipynb): {about}' for name, about in titles.items())
    (folder/'index.md').write_text("# Tutorials\n\nEach is a notebook that runs from its first cell to its last, here and in Colab.\n\n"
                                   f"{rows}\n\n{toctree(list(titles), hidden=True)}", encoding='utf-8')


def toctree(names, hidden=False):
    "A table of contents of these pages."
    return ':::{toctree}\n:maxdepth: 1\n' + (':hidden:\n' if hidden else '') + '\n' + '\n'.join(names) + '\n:::\n'


# Reference

def parameters(f):
    "A table of a callable's parameters and what it returns, from the comments beside them."
    try: found = docments(f, full=True, args_kwargs=True)
    except (TypeError, ValueError, OSError): return ''
    rows = [(n, d) for n, d in found.items() if n not in ('self', 'cls', 'return') and d.docment]
    cell = lambda text: ' '.join(str(text).split()).replace('|', '\\|')
    default = lambda d: '' if d.default is inspect.Parameter.empty else f'`{cell(short(d.default))}`'
    table = ['| parameter | default | what |', '|---|---|---|', *(f'| `{n}` | {default(d)} | {cell(d.docment)} |' for n, d in rows)] if rows else []
    gives = found.get('return')
    if gives is not None and gives.docment: table += ['', f'Returns: {cell(gives.docment)}.']
    return '\n'.join(table)


def short(value):
    "A default as code, cut where it is long."
    text = getattr(value, '__name__', None) or repr(value)
    return text if len(text) < 60 else text[:57] + '…'


def signature(name, f):
    "How a callable is called."
    try: return f'{name}({", ".join(str(p).split(":")[0].split("=")[0].strip() for p in inspect.signature(f).parameters.values() if p.name != "self")})'
    except (TypeError, ValueError): return name


def describe(name, thing, level='##'):
    "One public name: heading, call, docstring, parameters; a class with its methods."
    if not callable(thing): return f'{level} {name}\n\nA value: `{short(thing)}`.\n'.replace('`<', '`').replace('>`', '`')
    parts = [f'{level} {name}', f'```python\n{signature(name, thing)}\n```', inspect.getdoc(thing) or '', parameters(thing.__init__ if inspect.isclass(thing) else thing)]
    if inspect.isclass(thing):
        for method, f in vars(thing).items():
            f = getattr(f, '__func__', f)
            if inspect.isfunction(f) and not method.startswith('_') and f.__doc__: parts.append(describe(f'{name}.{method}', f, level+'#'))
    return '\n\n'.join(p for p in parts if p)


def write_reference():
    "One page a module, and the command line."
    folder = SOURCE/'reference'
    folder.mkdir(parents=True, exist_ok=True)
    modules = [p.stem[4:] for p in sorted((ROOT/'nbs').glob('[0-9]*.ipynb')) if 'default_exp' in p.read_text(encoding='utf-8')]
    for name in modules:
        m = importlib.import_module(f'msca.{name}')
        number = next((ROOT/'nbs').glob(f'*_{name}.ipynb')).name
        body = '\n\n'.join(describe(n, getattr(m, n)) for n in m.__all__)
        (folder/f'{name}.md').write_text(f'# {name}\n\n{inspect.getdoc(m)}. Explained in [its notebook](../notebooks/{number}).\n\n{body}\n', encoding='utf-8')
    write_commands(folder)
    (folder/'index.md').write_text('# Reference\n\nPublic names with shapes, ranges and units, read from the package; and the command line.\n\n' + toctree(['commands', *modules]))


def write_commands(folder):
    "Every command with all its options, from the parsers themselves."
    from msca.commands.cli import GROUPS, build_parser
    top = build_parser()
    subs = next(a for a in top._actions if a.dest == 'command').choices
    parts = ['# Command line', 'Errors take one line; the exit code is 2 for bad input. `msca COMMAND --help` says the same as this page.']
    for title, names in GROUPS.items(): parts += [f'## {title}', *(describe_command(subs[name], '###') for name in names)]
    parts += [describe_command(p, '##') for name, p in subs.items() if not any(name in names for names in GROUPS.values())]
    (folder/'commands.md').write_text('\n\n'.join(parts), encoding='utf-8')


def describe_command(p, level, told=None):
    "One command: what it does, an example, its options in their groups; a command of commands with these."
    nested = [a for a in p._actions if isinstance(a, argparse._SubParsersAction)]
    example = re.sub(r'\Aexamples?:\s*', '', p.epilog or '').replace('\n  ', '\n').strip()
    parts = [f'{level} {p.prog}', p.description or told or '', f'```sh\n{example}\n```' if example and not nested else '']
    groups = [(g.title, [a for a in g._group_actions if a not in nested and a.dest != 'help']) for g in p._action_groups]
    for title, actions in groups:
        if not actions: continue
        parts += [f'*{title}*'] if sum(bool(a) for _, a in groups) > 1 else []
        parts.append('\n'.join(['| option | what |', '|---|---|', *(option_row(p, a) for a in actions)]))
    for a in nested: parts += [describe_command(a.choices[c.dest], f'{level}#', f'{c.help[0].upper()}{c.help[1:]}.') for c in a._choices_actions]
    return '\n\n'.join(filter(None, parts))


def option_row(p, action):
    "A line of the table: the option as it is written, and its help."
    formatter, cell = p._get_formatter(), lambda text: text.replace('|', '\\|')
    value = '' if action.nargs == 0 else formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    written = ' '.join(filter(None, [', '.join(action.option_strings), value]))
    told = ' '.join(formatter._expand_help(action).split()) if action.help else ''
    told = re.sub(r'`[^`]*`|[*_<]', lambda m: m[0] if m[0][0] == '`' else '\\'+m[0], told)
    return f"| `{cell(written)}` | {cell(told)}{'; required' if action.required and action.option_strings else ''} |"


# Results

MEASURED = {'LPIPS, AlexNet ↓': ('mirroring', 'lpips_alex'), 'LPIPS, VGG-16 ↓': ('mirroring', 'lpips_vgg'), 'PSNR in dB ↑': ('mirroring', 'psnr'), 'SSIM ↑': ('mirroring', 'ssim'),
            'color distance ↓': ('mirroring', 'color'), 'Fréchet distance of swaps, AlexNet ↓': ('swaps', 'alexnet', 'frechet'),
            'pixels whose class DeepLab sees ↑': ('mirroring', 'deeplab')}


def held_out_table(size):
    "The shipped models that were measured on held-out photos of a size, side by side; a dagger where a network of the losses judges."
    read = {m: json.loads((ROOT/'results'/f'held-out-{m}.json').read_text(encoding='utf-8')) for m in sorted(p.parent.name for p in MODELS.glob('*/MODEL_CARD.md'))
            if (ROOT/'results'/f'held-out-{m}.json').exists()}
    return measures_table({f'[{m}]({m}.md)': r for m, r in read.items() if r['size'] == size})


def references_table():
    "The same measures of pictures that no model painted."
    return measures_table(json.loads((ROOT/'results'/'held-out-references.json').read_text(encoding='utf-8'))['references'])


def measures_table(columns):
    "Reports of `benchmarks/held_out.py` by title, side by side."
    rows = [f"| {' | '.join(['', *columns])} |", f"|---|{'---|'*len(columns)}"]
    for name, way in MEASURED.items():
        found = [reduce(lambda d, k: d.get(k, {}), way, r) for r in columns.values()]
        marks = [' †' if way[-1] in r.get('in_losses', ()) else '' for r in columns.values()]
        shown = [f"{v['value']:.3g} ({v['low']:.3g} to {v['high']:.3g})" if isinstance(v, dict) and v else f'{v:.3g}' if v else '–' for v in found]
        rows.append(f"| {name} | {' | '.join(map(''.join, zip(shown, marks)))} |")
    return '\n'.join(rows)


def write_table1(folder):
    "The paper's comparison, repeated on photos and on rendered scenes, and that with the relatives: one page each."
    again = 'Table 1 again', '470_evidence.table1'
    pages = {'table1-siftflow': ('Table 1 on photos', *again), 'table1-procedural': ('Table 1 on rendered scenes', *again),
             'table1-relatives': ('The relatives on rendered scenes', 'The relatives, trained alike', '472_evidence.relatives')}
    for name, (title, discussed, notebook) in pages.items():
        text = (ROOT/'results'/name/'table1.md').read_text(encoding='utf-8')
        text = text.replace('# Table 1\n', f'# {title}\n\nDiscussed in [{discussed}](../notebooks/{notebook}.ipynb).\n', 1)
        (folder/f'{name}.md').write_text(text, encoding='utf-8')
    return list(pages)


def write_laboratory(folder):
    "What was run, for every committed result: command, date, machine."
    rows = []
    for path in sorted((ROOT/'results').rglob('*.json')):
        found = json.loads(path.read_text(encoding='utf-8'))
        made = {**{k: v for k, v in found.items() if k in ('command', 'date', 'hardware')}, **(found.get('made_by') or {})}
        told = ', '.join([f"`{path.relative_to(ROOT/'results').as_posix()}`", *(made[k] for k in ('date', 'hardware') if k in made)])
        if 'command' in made: rows.append(f"{told}\n\n```sh\n{made['command']}\n```")
    notebooks = '\n'.join(f'- [{title}](../notebooks/{name}.ipynb)' for name, title in LABORATORY.items())
    where = 'The files are in the folder `results` of the repository. `$MSCA_DATA` holds the photos, `$WEIGHTS` and `$MSCA_WEIGHTS` the weights of known networks.'
    parts = ['# Laboratory notebook', 'Notebooks that measure and discuss:', notebooks, '## Every committed result', where, *rows]
    (folder/'laboratory.md').write_text('\n\n'.join(parts) + '\n', encoding='utf-8')


def write_results():
    "The committed tables, the model cards and the laboratory notebook."
    folder = SOURCE/'results'
    folder.mkdir(parents=True, exist_ok=True)
    cards = sorted(MODELS.glob('*/MODEL_CARD.md'))
    for card in cards: (folder/f'{card.parent.name}.md').write_text(relink(re.sub(r'\A---\n.*?\n---\n', '', card.read_text(encoding='utf-8'), flags=re.S)), encoding='utf-8')
    write_laboratory(folder)
    tables = {'HELD_OUT_TABLE_256': held_out_table(256), 'HELD_OUT_TABLE_128': held_out_table(128), 'REFERENCES_TABLE': references_table()}
    text = reduce(lambda t, made: t.replace(*made), tables.items(), (PAGES/'results'/'index.md').read_text(encoding='utf-8'))
    notebooks = [f'../notebooks/{name}' for name in ('470_evidence.table1', '472_evidence.relatives', '474_evidence.class_models', '480_evidence.shipped')]
    pages = [c.parent.name for c in cards] + write_table1(folder) + [*notebooks, 'laboratory']
    (folder/'index.md').write_text(text + '\n' + toctree(pages, hidden=True), encoding='utf-8')


def relink(text):
    "Links of a file of the repository to notebooks lead to their pages; those to other files lose the link."
    text = re.sub(r'\]\((?:\.\./)*nbs/(\d{3}_[\w.]+\.ipynb)\)', r'](../notebooks/\1)', text)
    return re.sub(r'\[([^\]]+)\]\((?:\.\./)+(?!notebooks)[^)]+\)', r'\1', text)


# The page that paints

LIVE = '''
```{raw} html
<figure class="demo" id="demo">
<a href="demo/index.html"><img src="web-page.jpg" alt="%(words)s"></a>
<figcaption><button type="button">Paint here</button>
<span>%(size)s MB, computed in this browser; nothing is uploaded. Or <a href="demo/index.html">as a page of its own</a>.</span></figcaption>
</figure>
<script>
document.querySelector('#demo button').onclick = e => {
  const frame = Object.assign(document.createElement('iframe'), {src: 'demo/index.html', title: 'msca: paint with labels'})
  document.querySelector('#demo > a').replaceWith(frame)
  e.target.remove()
}
</script>
```
'''
WORDS = 'A page with a label map at the left, its classes beside it, and the picture that is computed from it at the right'
PICTURE = '''
![%(words)s](notebooks/images/web-page.jpg)

*The page that `msca export --format web` writes; it paints in the browser. %(why)s*
'''


def write_demo():
    "The shipped model's page beside the site, and where it is on the first page; a picture of it and the reason where it cannot be made."
    from msca.base.labels import InputError
    from msca.commands.cli import main as msca
    index = SOURCE/'index.md'
    try:
        from msca.commands.web import fetch_runtime
        fetch_runtime()
        if msca(['export', '--format', 'web', '--out', str(SOURCE/'extra'/'demo')]): raise InputError('the shipped model cannot be exported here')
        first = json.loads((SOURCE/'extra'/'demo'/'manifest.json').read_text(encoding='utf-8'))['first']
        shutil.copy(ROOT/'nbs'/'images'/'web-page.jpg', SOURCE/'extra')  # Sphinx does not look into HTML
        block = LIVE % dict(size=f'{first/1e6:.0f}', words=WORDS)
    except InputError as e:
        print(f'docs/site.py: no live demo: {e}', file=sys.stderr)
        block = PICTURE % dict(why='This site was built without it.', words=WORDS)
    (SOURCE/'extra').mkdir(exist_ok=True)
    index.write_text(index.read_text(encoding='utf-8').replace('<!-- demo -->', block), encoding='utf-8')


# The whole

def write_sources():
    "All sources of the site, anew."
    if OUT.exists(): shutil.rmtree(OUT)
    shutil.copytree(PAGES, SOURCE)
    shutil.copy(DOCS/'conf.py', SOURCE)
    (SOURCE/'_static').mkdir()
    shutil.copy(DOCS/'msca.css', SOURCE/'_static')
    mathjax = next(f for f in distribution('sphinx-mathjax-offline').files if f.match('mathjax/tex-svg.js'))
    shutil.copy(mathjax.locate(), SOURCE/'_static')
    for write in (write_notebooks, write_tutorials, write_reference, write_results, write_demo): write()


def main():
    write_sources()
    strict = [] if '--lenient' in sys.argv else ['-W']
    return build_main(['-q', *strict, '--keep-going', '-b', 'html', str(SOURCE), str(OUT/'html')])


if __name__ == '__main__': sys.exit(main())
