#!/bin/sh
# Copies the browser libraries that the live page uses, with their licences, out of a folder of npm packages.
# Called by `make ui-vendor`. Source maps are left out, and the references to them.
set -eu
packages=$1
target=$(dirname "$0")/static/vendor
mkdir -p "$target" tests/fixtures/axe
rm -f "$target"/*
copy() { sed '/^\/\/# sourceMappingURL=/d' "$packages/$1" > "$target/$2"; }
copy htm/preact/standalone.module.js preact-htm.js
copy uplot/dist/uPlot.esm.js uplot.js
copy uplot/dist/uPlot.min.css uplot.css
copy leaflet/dist/leaflet-src.esm.js leaflet.js
copy leaflet/dist/leaflet.css leaflet.css
cp "$packages/htm/LICENSE" "$target/LICENSE-htm.txt"
cp "$packages/preact/LICENSE" "$target/LICENSE-preact.txt"
cp "$packages/uplot/LICENSE" "$target/LICENSE-uplot.txt"
cp "$packages/leaflet/LICENSE" "$target/LICENSE-leaflet.txt"
cp "$packages/axe-core/axe.min.js" "$packages/axe-core/LICENSE" tests/fixtures/axe/
