"Sphinx settings of the site; `docs/site.py` writes the sources beside a copy of this file and calls Sphinx."
from importlib.metadata import version as version_of

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
