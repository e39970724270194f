#!/usr/bin/env bash
# Writes the mesh as a graph for Graphviz: the live one where it runs, else the one that topology.toml describes.
#
#   scripts/export_peer_graph.sh [FILE]     FILE: peer_network.dot in the current directory where none is named
#   dot -Tpng peer_network.dot -o peer_network.png
#
# It is `hopcast graph -o FILE`, which also writes .svg and .png at once. It takes the variables of deploy_peer_network.sh.
set -euo pipefail
here=$PWD
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

case ${1:-} in
-h | --help) sed -n '2,7s/^# \{0,1\}//p' "$root/scripts/export_peer_graph.sh" && exit ;;
esac
[ $# -le 1 ] || die "at most one argument, the file to write (see --help)"
file=${1:-peer_network.dot}
[[ $file == /* ]] || file=$here/$file
find_hopcast
exec "$hopcast" graph -o "$file"
