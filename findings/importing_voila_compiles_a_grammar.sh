#!/usr/bin/env bash
# voila 0.5.13, jupyter-events 0.12.1, jsonschema 4.26.0, rfc3987-syntax 1.1.0, lark 1.3.1: more than half of the time that Voilà (as any Jupyter server) needs to
# be imported is spent on a grammar. jupyter-events asks for jsonschema[format-nongpl]; jsonschema then imports rfc3987-syntax, whose module compiles
# the grammar of international addresses (IRIs) with lark when it is imported, whether or not an IRI is ever checked. jsonschema does without it where it is
# not there: then `format: iri` is simply not checked.
# Seen (processor seconds): import voila.app 1.55, without rfc3987-syntax .48; import rfc3987_syntax alone 1.00.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install voila==0.5.13 jupyter-events==0.12.1 jsonschema==4.26.0 rfc3987-syntax==1.1.0 lark==1.3.1 >/dev/null 2>&1
v/bin/python -c 'import voila.app'  # byte code is written
seconds() { v/bin/python -c "import time
$1
print(time.process_time())"; }
with=$(seconds 'import voila.app')
without=$(seconds "import sys; sys.modules['rfc3987_syntax'] = None; import voila.app")
alone=$(seconds 'import rfc3987_syntax')
echo "import voila.app $with, without rfc3987-syntax $without; import rfc3987_syntax alone $alone"
v/bin/python -c "assert $with > 2*$without and $alone > $without"
v/bin/python -c "
import jsonschema
check = jsonschema.Draft202012Validator.FORMAT_CHECKER
assert 'iri' in check.checkers"
v/bin/python -c "
import sys
sys.modules['rfc3987_syntax'] = None
import jsonschema
assert 'iri' not in jsonschema.Draft202012Validator.FORMAT_CHECKER.checkers"
echo 'as described'
