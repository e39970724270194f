#!/usr/bin/env bash
# The legacy launcher: many capped containers of one image. No agent, no databases, no topology file; Docker alone.
#
#   scripts/deploy_500_containers.sh            start what is missing; again with the same values it changes nothing
#   scripts/deploy_500_containers.sh --down     remove them all, and the network if this script made it
#
#   COUNT     how many containers (500); those of an earlier run with a higher number are removed
#   PREFIX    what their names begin with (light): light-1, light-2, ...
#   IMAGE     any image that this engine has or can pull (busybox:stable-musl)
#   COMMAND   what they run (busybox: sleep 2147483647; other images: what the image itself says); split at spaces
#   MEMORY    hard cap of each, without swap (15m; the engine's minimum is 6m)
#   CPUS      share of CPUs of each (0.05)
#   PIDS      most processes and threads in each (50)
#   NETWORK   none, host, bridge, or the name of a network, which is created where it is missing (none)
#   JOBS      how many are being started at a time (8)
#
# A bridge takes about 1000 containers. Their root file system is read-only; they have no capabilities.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

down=no
case ${1:-} in
'') ;;
--down) down=yes ;;
-h | --help) sed -n '2,18s/^# \{0,1\}//p' "$root/scripts/deploy_500_containers.sh" && exit ;;
*) die "unknown argument: $1 (see --help)" ;;
esac

count=${COUNT:-500} prefix=${PREFIX:-light} image=${IMAGE:-busybox:stable-musl} memory=${MEMORY:-15m} cpus=${CPUS:-0.05}
pids=${PIDS:-50} network=${NETWORK:-none} jobs=${JOBS:-8}
case $image in
busybox | busybox:*) command=${COMMAND:-sleep 2147483647} ;;
*) command=${COMMAND:-} ;;
esac
[[ $count =~ ^[1-9][0-9]{0,4}$ ]] || die "COUNT is \`$count\`: write a number from 1 to 99999"
[[ $jobs =~ ^[1-9][0-9]?$ ]] || die "JOBS is \`$jobs\`: write a number from 1 to 99"
[[ $pids =~ ^[1-9][0-9]*$ ]] || die "PIDS is \`$pids\`: write a number of processes, such as 50"
[[ $prefix =~ ^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,50}$ ]] || die "PREFIX is \`$prefix\`: write letters, digits, '.', '_' and '-'"

need_docker ""
label=io.hopcast.legacy=$prefix

# Removes the containers whose ids come on standard input.
remove() { xargs -r -n 20 -P "$jobs" docker rm -f >/dev/null; }

if [ $down = yes ]; then
    ids=$(docker ps -aq --filter "label=$label")
    remove <<<"$ids"
    networks=$(docker network ls -q --filter "label=$label")
    xargs -r docker network rm <<<"$networks" >/dev/null
    say "removed $(grep -c . <<<"$ids" || true) containers and $(grep -c . <<<"$networks" || true) networks labelled $label"
    exit
fi

docker image inspect "$image" >/dev/null 2>&1 || timeout 300 docker pull "$image" >&2 ||
    die "there is no image $image here, and it cannot be pulled. Where it can be:
    docker pull $image && docker save $image -o image.tar
copy image.tar to this machine and load it:
    docker load -i image.tar
or name an image that is here (docker images): IMAGE=... $0"
id=$(docker image inspect --format '{{.Id}}' "$image")

# What differs in any of these is another container.
config=$(printf '%s\n' "$id" "$command" "$memory" "$cpus" "$pids" "$network" | sha256sum | cut -c 1-16)

# Names under which something runs that is not this script's are not touched.
ours=$(docker ps -a --filter "label=$label" --format '{{.Names}}' | sort)
wanted() { seq -f "$prefix-%.0f" "$count" | sort; }
taken=$(docker ps -a --format '{{.Names}}' | sort | comm -12 - <(wanted) | comm -23 - <(printf '%s\n' "$ours"))
[ -z "$taken" ] || die "containers of these names are there and are not this script's: $(head -5 <<<"$taken" | xargs)
remove or rename them, or choose another PREFIX"

case $network in
none | host | bridge) ;;
*) docker network inspect "$network" >/dev/null 2>&1 ||
    docker network create --label "$label" "$network" >/dev/null || die "the network $network cannot be created" ;;
esac

# Beyond the count, or made with other settings.
docker ps -a --filter "label=$label" --format '{{.Names}} {{.ID}} {{.Label "io.hopcast.config"}}' |
    awk -v prefix="$prefix-" -v count="$count" -v config="$config" \
        '{ number = substr($1, length(prefix) + 1) + 0 } number > count || $3 != config { print $2 }' | remove
stopped=$(docker ps -aq --filter "label=$label" --filter status=exited --filter status=created --filter status=dead)
xargs -r -n 10 -P "$jobs" docker start <<<"$stopped" >/dev/null

absent=$(docker ps -a --filter "label=$label" --format '{{.Names}}' | sort | comm -13 - <(wanted) | sort -V)
say "starting $(grep -c . <<<"$absent" || true) of $count containers of $image"
read -ra words <<<"$command"
xargs -r -I %name% -P "$jobs" docker run -d --name %name% --label "$label" --label "io.hopcast.config=$config" --network "$network" \
    --memory "$memory" --memory-swap "$memory" --cpus "$cpus" --pids-limit "$pids" --read-only --cap-drop ALL \
    --security-opt no-new-privileges --log-driver none --stop-signal SIGKILL --restart unless-stopped "$image" "${words[@]}" <<<"$absent" >/dev/null
