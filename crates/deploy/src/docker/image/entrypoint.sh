#!/bin/sh
# What the official postgres image's entry point does, for a server that never runs as root: it makes the cluster in an empty
# $PGDATA, with the user and the database that are asked for, and becomes the server.
#
#   POSTGRES_PASSWORD         the user's password; or POSTGRES_HOST_AUTH_METHOD=trust
#   POSTGRES_USER             a superuser, `postgres`
#   POSTGRES_DB               the database, as the user
#   POSTGRES_INITDB_ARGS      more arguments of initdb
#   POSTGRES_HOST_AUTH_METHOD what pg_hba.conf says about everybody, `scram-sha-256`
#   PGDATA                    where the cluster is, /var/lib/postgresql/data
#
# The first four also as NAME_FILE: the value is that file's text. /docker-entrypoint-initdb.d/*.sql run once, in the database.
set -eu
umask 077

fail() {
    echo "entrypoint: $*" >&2
    exit 1
}

# value NAME DEFAULT: sets the variable from itself, from the file that NAME_FILE names, or to the default.
value() {
    eval "given=\${$1:-} file=\${$1_FILE:-}"
    # shellcheck disable=SC2154
    if [ -n "$file" ]; then
        [ -z "$given" ] || fail "both $1 and $1_FILE are set: set one of them"
        given=$(cat "$file") || fail "uid $(id -u) cannot read $file, which $1_FILE names"
    fi
    [ -n "$given" ] || given=$2
    eval "$1=\$given"
    unset given file "$1_FILE"
}

# make: the cluster in the empty directory $new.
make() {
    value POSTGRES_PASSWORD ''
    value POSTGRES_USER postgres
    value POSTGRES_DB "$POSTGRES_USER"
    value POSTGRES_INITDB_ARGS ''
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    # The arguments' own quotes hold, as in the official image.
    arguments="--pgdata=\"\$new/data\" --username=\"\$POSTGRES_USER\" --encoding=UTF8"
    if [ -n "$POSTGRES_PASSWORD" ]; then
        # `printf` is the shell's own: no list of processes shows the password.
        printf '%s\n' "$POSTGRES_PASSWORD" | eval "initdb $arguments --pwfile=/dev/stdin $POSTGRES_INITDB_ARGS"
    elif [ "$method" = trust ]; then
        eval "initdb $arguments $POSTGRES_INITDB_ARGS"
    else
        fail "a new cluster needs a password: set POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD=trust to let everybody in"
    fi

    # Nobody else can reach this server: it has no address, and its socket is in a closed directory.
    echo 'local all all trust' >"$new/hba"
    pg_ctl --pgdata="$new/data" --wait --silent --log="$new/log" start \
        --options="-c listen_addresses='' -c unix_socket_directories='$new' -c hba_file='$new/hba'" || {
        cat "$new/log" >&2
        fail "the new cluster does not start"
    }
    [ "$POSTGRES_DB" = postgres ] || echo 'CREATE DATABASE :"name"' |
        psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=name="$POSTGRES_DB" --host="$new" --username="$POSTGRES_USER" --dbname=postgres
    for file in /docker-entrypoint-initdb.d/*.sql; do
        [ -e "$file" ] || continue
        echo "entrypoint: running $file"
        psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --host="$new" --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --file="$file"
    done
    pg_ctl --pgdata="$new/data" --wait --silent --mode=fast stop

    # Who can reach it is the engine's business, who may enter that of pg_hba.conf.
    printf "\nlisten_addresses = '*'\n" >>"$new/data/postgresql.conf"
    printf '\nhost all all all %s\n' "$method" >>"$new/data/pg_hba.conf"
}

case ${1-} in
'' | -*) set -- postgres "$@" ;;
esac
# Another command, or a question that the server answers without a cluster.
[ "$1" = postgres ] || exec "$@"
for argument; do
    case $argument in
    --version | -V | --help | '-?' | --describe-config | -C) exec "$@" ;;
    esac
done
[ "$(id -u)" != 0 ] || fail "PostgreSQL does not run as root: leave --user to the image, or name another user"

export PGDATA="${PGDATA:-/var/lib/postgresql/data}"
new=$PGDATA/.entrypoint
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA" || fail "uid $(id -u) cannot make $PGDATA: mount a volume that is this user's"
    # The cluster is made beside its place and moved there, PG_VERSION last: where that is missing, an entry point was
    # killed meanwhile, and what it left is worth nothing.
    [ ! -e "$new" ] || rm -rf "${PGDATA:?}"/* "$new"
    for file in "$PGDATA"/*; do
        [ ! -e "$file" ] || [ "$file" = "$PGDATA/lost+found" ] ||
            fail "$PGDATA is neither empty nor a cluster, there is $file: mount an empty volume, or set PGDATA to a directory in it"
    done
    # Made by the engine, it is open to others; the server insists that it is not.
    chmod 700 "$PGDATA" || fail "uid $(id -u) does not own $PGDATA: set PGDATA to a directory in it, or mount a volume that is this user's"
    mkdir "$new"
    make
    for file in "$new/data"/*; do
        [ "$file" = "$new/data/PG_VERSION" ] || mv "$file" "$PGDATA/"
    done
    mv "$new/data/PG_VERSION" "$PGDATA/"
fi
rm -rf "$new"
unset POSTGRES_PASSWORD
exec "$@"
