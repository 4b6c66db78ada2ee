"For all test files: what is trained or made once, whichever process asks first, and which files come first."
import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

# the longest files, so that the last of two processes does not wait for one of them; the others follow in the order of their names
LONGEST = ('test_portable', 'test_report', 'test_cli', 'test_distributed', 'test_training', 'test_app', 'test_evidence', 'test_steering',
           'test_shipped')


def pytest_collection_modifyitems(items):
    "With `--no-loadscope-reorder` files are handed out in this order."
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope='session')
def made_once(tmp_path_factory):
    "`made_once(name, make)`: a folder that `make(folder)` fills, in the first process that wants it; others wait, and only read."
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if 'PYTEST_XDIST_WORKER' in os.environ else own  # the processes of one run have folders side by side

    def folder(name:str, make) -> Path:
        "The finished folder; a `make` that failed leaves none."
        path, part = shared/'made-once'/name, shared/'made-once'/f'{name}.part'
        path.parent.mkdir(exist_ok=True)
        with FileLock(f'{path}.lock'):
            if not path.is_dir():
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                make(part)
                part.rename(path)
        return path
    return folder
