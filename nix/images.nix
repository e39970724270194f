# The images of the Docker backend, as docs/docker.md wants them: names, labels, users and entry points are those of the
# ones that `hopcast image build` makes. `hopcast image load` takes the archives.
{
  lib,
  pkgs,
  programs,
}:
let
  # Real files at the image's root: no store, nothing but the programs.
  files =
    names:
    pkgs.runCommand "hopcast-image-files" { } ''
      mkdir -p "$out"
      for name in ${toString names}; do
        install -m755 ${programs}/bin/"$name" "$out/$name"
      done
    '';
  image =
    {
      name,
      role,
      names,
    }:
    pkgs.dockerTools.buildImage {
      inherit name;
      tag = "latest";
      copyToRoot = files names;
      config = {
        User = "65532:65532";
        WorkingDir = "/";
        Entrypoint = [ "/${lib.head names}" ];
        Labels."io.hopcast.image" = role;
      };
    };

  postgresql = pkgs.postgresql_17;
  locales = pkgs.glibcLocales.override {
    allLocales = false;
    locales = [ "C.UTF-8/UTF-8" ];
  };
  # The entry point that hopcast's own image has, and the users that it expects.
  around = pkgs.runCommand "hopcast-postgres-files" { } ''
    install -Dm755 ${../crates/deploy/src/docker/image/entrypoint.sh} "$out/bin/docker-entrypoint.sh"
    mkdir -p "$out/etc" "$out/docker-entrypoint-initdb.d"
    echo 'root:x:0:0:root:/:/bin/sh
    postgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/sh
    nobody:x:65534:65534:nobody:/:/bin/false' | sed 's/^ *//' >"$out/etc/passwd"
    echo 'root:x:0:
    postgres:x:999:
    nogroup:x:65534:' | sed 's/^ *//' >"$out/etc/group"
    echo 'passwd: files
    group: files
    hosts: files dns' | sed 's/^ *//' >"$out/etc/nsswitch.conf"
  '';
in
{
  peer-image = image {
    name = "peer-node";
    role = "peer";
    names = [ "hopcast-peer" ];
  };

  signalling-image = image {
    name = "hopcast-signalling";
    role = "signalling";
    names = [
      "hopcast-signalling"
      "hopcast"
    ];
  };

  postgres-image = pkgs.dockerTools.buildLayeredImage {
    name = "hopcast-postgres";
    tag = lib.versions.major postgresql.version;
    contents = [
      around
      postgresql
      pkgs.bash
      pkgs.coreutils
      pkgs.glibc.bin
      pkgs.tzdata
    ];
    # An empty volume takes owner and mode from here.
    fakeRootCommands = ''
      mkdir -p tmp run/postgresql var/lib/postgresql/data
      ln -s /run var/run
      chown 999:999 run/postgresql var/lib/postgresql var/lib/postgresql/data
      chmod 1777 tmp var/lib/postgresql var/lib/postgresql/data
      chmod 3777 run/postgresql
    '';
    config = {
      User = "999:999";
      WorkingDir = "/";
      Env = [
        "PATH=/bin"
        "LANG=C.UTF-8"
        "LOCALE_ARCHIVE=${locales}/lib/locale/locale-archive"
        "TZDIR=${pkgs.tzdata}/share/zoneinfo"
        "PG_MAJOR=${lib.versions.major postgresql.version}"
        "PGDATA=/var/lib/postgresql/data"
      ];
      Entrypoint = [ "docker-entrypoint.sh" ];
      Cmd = [ "postgres" ];
      ExposedPorts."5432/tcp" = { };
      StopSignal = "SIGINT";
      Labels."io.hopcast.image" = "postgres";
    };
  };
}
