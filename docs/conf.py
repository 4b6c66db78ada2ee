"Sphinx settings of the site; `docs/site.py` writes the sources beside a copy of this file and calls Sphinx."
import re
from importlib.metadata import version as version_of

from sphinx.builders.html import StandaloneHTMLBuilder

project, author, copyright = 'msca', 'the msca authors', 'the msca authors, Apache-2.0'
release = version = version_of('msca')
extensions = ['myst_nb', 'sphinx_copybutton', 'sphinx.ext.mathjax']
source_suffix = {'.md': 'myst-nb', '.ipynb': 'myst-nb'}
exclude_patterns = ['_static', 'extra']

nb_execution_mode = 'off'  # notebooks are committed with the outputs that `make notebooks` saved
nb_merge_streams = True
nb_code_prompt_show = 'Imports and checks'
nb_code_prompt_hide = 'Imports and checks'
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'html_image', 'attrs_inline']
myst_heading_anchors = 4
suppress_warnings = ['myst.header']  # a notebook's cells begin at any level

html_theme, html_title = 'furo', 'msca'
html_static_path, html_css_files = ['_static'], ['msca.css']
html_extra_path = ['extra']  # the page that paints, as it is
html_copy_source = html_show_sourcelink = html_show_search_summary = False
mathjax_path = 'tex-svg.js'  # a file of the site: nothing is loaded from elsewhere
StandaloneHTMLBuilder.supported_image_types.append('image/webp')  # the gallery's animation; every browser shows it


OPTION = re.compile(r'(?<![\w&;-])-{1,2}[A-Za-z][\w-]*')


def hold_options(text):
    "Options of commands in HTML, kept whole: a browser would break a line after their hyphens."
    return re.sub(r'(?<=>)[^<]+', lambda m: OPTION.sub(r'<span class="option">\g<0></span>', m[0]), text)


def break_name(name):
    "A name that may be broken where a new word begins."
    return re.sub(r'(?<=[a-z])(?=[A-Z])|(?<=[._])(?=\w)', '<wbr>', name)


def fit(app, pagename, templatename, context, doctree):
    "Let a narrow page break names in headings of the reference, and nowhere the options of commands."
    body = context.get('body', '')
    body = re.sub(r'<div class="highlight-(sh|bash|ipython3?) .*?</pre>|<code class=.*?</code>', lambda m: hold_options(m[0]), body, flags=re.S)
    if pagename.startswith('reference/'): body = re.sub(r'(<h[1-4]>)([\w.]+)', lambda m: m[1]+break_name(m[2]), body)
    context['body'] = body


def setup(app): app.connect('html-page-context', fit)
