#!/usr/bin/env bash
# Brings the mesh of topology.toml up on Docker: peers, edge and origin databases, signalling server, songs.
#
#   scripts/deploy_peer_network.sh [ARGUMENT ...]     the arguments are those of `hopcast up`, such as --dry-run
#   scripts/deploy_peer_network.sh --down             take it down: exactly what is the mesh's
#
#   COUNT, MAX_COUNT            how many peers (160), and the most that COUNT may ask for (160)
#   PREFIX                      what their names begin with (peer): peer-1, peer-2, ...
#   PEER_NETWORK, EDGE1_NETWORK, EDGE2_NETWORK, ORIGIN_NETWORK      (micro-net, edge-a-net, edge-b-net, origin-net)
#   EDGE1_PEERS, EDGE2_PEERS    the peers that reach edge-db-a and edge-db-b, comma lists (peer-1..peer-8, peer-20..peer-27)
#   IMAGE                       the peers' image (peer-node:latest), made where it is missing
#   POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD                   (hls, media, a generated one)
#
# It is `hopcast up --backend docker`; again with the same values it changes nothing. Export what the mesh was started with
# for later runs, or they go back to the file's values.
set -euo pipefail
here=$PWD
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

case ${1:-} in
-h | --help) sed -n '2,15s/^# \{0,1\}//p' "$root/scripts/deploy_peer_network.sh" && exit ;;
esac
need_docker ""
find_hopcast
# A file that the arguments name is meant from where the caller is.
case " $* " in *" --file"* | *" -f"*) cd "$here" ;; esac
if [ "${1:-}" = --down ]; then
    shift
    exec "$hopcast" down --backend docker "$@"
fi
"$hopcast" up --backend docker "$@"

case " $* " in *" --dry-run "* | *" --json "*) exit ;; esac
cat <<NEXT

Look:       docker ps | grep ${PREFIX:-peer}-
            docker network inspect ${PEER_NETWORK:-micro-net}
            docker network inspect ${EDGE1_NETWORK:-edge-a-net}
Test:       $hopcast verify --backend docker
Draw:       scripts/export_peer_graph.sh      (writes peer_network.dot)
Mend:       scripts/deploy_peer_network.sh      (after docker rm -f, a kill, an edited file)
Take down:  scripts/deploy_peer_network.sh --down
NEXT
