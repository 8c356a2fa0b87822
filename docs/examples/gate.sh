set -eu
regionloss check mine:adapter \
    --profile darknet \
    --expect expected.toml \
    --json report.json \
    --junit report.xml \
    --markdown summary.md \
    --badge badge.json
