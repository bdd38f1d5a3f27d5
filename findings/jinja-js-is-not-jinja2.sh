#!/bin/sh
# @huggingface/jinja 0.5.11 renders some constructs of published chat templates otherwise than
# Python's Jinja2, without an error:
# - strip, lstrip and rstrip ignore their argument: `text.strip('\n')` takes the indentation of the
#   first line along, so that code in an earlier turn reaches the model changed;
# - {% break %} drops what the iteration had printed before it;
# - keys of a schema that look like integers come first in tojson;
# - the remainder of a negative number has the sign of the dividend.
# Jinja2 3.1 gives, for the same templates: "    if x:\n        y", "12", b before 10, and 2.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --ignore-scripts @huggingface/jinja@0.5.11 >/dev/null
cat > render.mjs <<'JS'
import { Template } from '@huggingface/jinja';
const render = (source, context = {}) => JSON.stringify(new Template(source).render(context));
console.log(render("{{ text.strip('\\n') }}", { text: '\n    if x:\n        y\n' }));
console.log(
  render('{% for i in [1, 2, 3] %}{{ i }}{% if i == 2 %}{% break %}{% endif %}{% endfor %}'),
);
console.log(render('{{ x | tojson }}', { x: { b: 1, 10: 2 } }));
console.log(render('{{ -7 % 3 }}'));
JS
seen=$(node render.mjs)
wanted='"if x:\n        y"
"1"
"{\"10\": 2, \"b\": 1}"
"-1"'
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo 'not what was found'; exit 1; }
