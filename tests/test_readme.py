"README: short, and true where it can be checked."
import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT/'README.md').read_text(encoding='utf-8')
SETTINGS = configparser.ConfigParser(delimiters=['='])
SETTINGS.read(ROOT/'settings.ini', encoding='utf-8')


def test_it_is_short_and_begins_with_what_matters():
    assert len(TEXT.split()) <= 700
    places = [TEXT.index(part) for part in ('images/grid.jpg', 'make demo', '```python', '](docs/tutorials)')]
    assert places == sorted(places) and len(TEXT[:places[-1]].split('\n')) < 45
    first = re.search(r'```python\n(.*?)```', TEXT, re.S)[1]
    assert len([line for line in first.split('\n') if line.strip()]) <= 5


def test_badges_are_true():
    settings = SETTINGS['DEFAULT']
    badges = dict(re.findall(r'img\.shields\.io/badge/(\w+)-(.*?)-0b7285', TEXT))
    assert badges == dict(version=settings['version'], python=f"{settings['min_python']}%2B", license=settings['license'].replace('-', '--'))


def test_every_link_leads_somewhere():
    for target in re.findall(r'\]\(([^)\s]+)\)', TEXT):
        if not target.startswith('http'): assert (ROOT/target.split('#')[0]).exists(), target


def test_the_paper_can_be_cited():
    assert '```bibtex' in TEXT and all(name in TEXT for name in ('Zheng, Haitian', 'Luo, Jiebo', 'year   = {2020}'))
    for name in ('StyleMixer', 'Painter', 'AttentionExplorer'): assert name in TEXT
