# What hopcast's flake takes from nixpkgs' package set, made of this machine's programs.
{
  lib,
  host,
  system,
}:
let
  # Every derivation: bash, this machine's programs, a home of its own.
  make =
    name: extra: script:
    derivation (
      {
        inherit name system;
        builder = "/bin/bash";
        PATH = host.path;
        args = [
          "-c"
          ''
            set -euo pipefail
            export HOME=$TMPDIR
            ${script}
            :
          ''
        ];
      }
      // extra
    );

  # What is never built here. It records what it would have been made from, so that all of that is evaluated.
  evaluatedOnly =
    name: text:
    make "${name}-evaluated-only" {
      inherit text;
      passAsFile = [ "text" ];
    } ''cp "$textPath" "$out"'';

  # Attributes that are for whoever looks at a package, not for its builder.
  dressed =
    package: set:
    package
    // {
      meta = set.meta or { };
      passthru = set.passthru or { };
      overrideAttrs =
        change:
        let
          changed = set // change set;
        in
        evaluatedOnly changed.pname (describe changed);
    }
    // set.passthru or { };
  describe =
    set:
    lib.toJSON (
      lib.mapAttrs (_: value: if lib.isFunction value then "a function" else value) (
        removeAttrs set [
          "meta"
          "passthru"
        ]
      )
    );

  # Programs of this machine under a package's name; what it lacks is missing there, too.
  programs =
    name: names:
    make name { } ''
      mkdir -p "$out/bin"
      for program in ${toString names}; do
        for at in $(type -P "$program") /usr/lib/postgresql/*/bin/"$program"; do
          [ ! -x "$at" ] || ln -sf "$at" "$out/bin/"
        done
      done
    ''
    // {
      version = "17.0";
      override = _: programs name names;
      meta.mainProgram = lib.head names;
    };
  one = name: programs name [ name ];

  write =
    name: text: script:
    make name {
      inherit text;
      passAsFile = [ "text" ];
    } script;

  image =
    {
      name,
      tag,
      config,
      copyToRoot,
    }:
    make "docker-image-${name}.tar.gz"
      {
        config = lib.toJSON config;
        passAsFile = [ "config" ];
      }
      ''
        mkdir layer
        cp -r ${copyToRoot}/. layer/
        chmod -R u+w layer
        tar -C layer --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner -cf layer.tar .
        digest=$(sha256sum layer.tar | cut -d' ' -f1)
        architecture=${if system == "x86_64-linux" then "amd64" else "arm64"}
        printf '{"architecture":"%s","os":"linux","created":"1970-01-01T00:00:01Z","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
          "$architecture" "$(cat "$configPath")" "$digest" >config.json
        printf '[{"Config":"config.json","RepoTags":["${name}:${tag}"],"Layers":["layer.tar"]}]' >manifest.json
        tar --sort=name --mtime=@1 --owner=0 --group=0 -cf - config.json layer.tar manifest.json | gzip -n >"$out"
      '';

  pkgs = {
    inherit lib system;
    stdenv.hostPlatform = {
      inherit system;
      rust.rustcTarget = lib.replaceStrings [ "-linux" ] [ "-unknown-linux-gnu" ] system;
    };

    runCommand =
      name: set: script:
      dressed (make name (
        {
          PATH = "${lib.makeBinPath (set.nativeBuildInputs or [ ])}:${host.path}";
        }
        // removeAttrs set [
          "meta"
          "nativeBuildInputs"
          "passthru"
        ]
      ) script) (set // { pname = name; });
    writeText = name: text: write name text ''cp "$textPath" "$out"'';
    writeShellApplication =
      {
        name,
        text,
        runtimeInputs ? [ ],
      }:
      write name
        ''
          #!/bin/bash
          set -o errexit -o nounset -o pipefail
          export PATH="${lib.makeBinPath runtimeInputs}:$PATH"

          ${text}
        ''
        ''
          mkdir -p "$out/bin"
          install -m755 "$textPath" "$out/bin/${name}"
          ! type shellcheck >/dev/null 2>&1 || shellcheck "$out/bin/${name}"
        ''
      // {
        meta.mainProgram = name;
      };
    mkShell = set: evaluatedOnly "nix-shell" (describe set);

    # The command of nixpkgs' hook, as far as hopcast's packages use it.
    makeWrapper = make "makeWrapper" { } ''
      mkdir -p "$out/bin"
      cat >"$out/bin/makeWrapper" <<'EOF'
      #!/bin/bash
      set -euo pipefail
      program=$1 wrapper=$2
      shift 2
      {
        echo '#!/bin/bash'
        while [ $# -gt 0 ]; do
          case $1 in
            --suffix) echo "export $2=\"\''${$2:+\$$2$3}$4\"" && shift 4 ;;
            --set) printf 'export %s=%q\n' "$2" "$3" && shift 3 ;;
            *) echo "makeWrapper: $1 is not known here" >&2 && exit 1 ;;
          esac
        done
        printf 'exec %q "$@"\n' "$program"
      } >"$wrapper"
      chmod +x "$wrapper"
      EOF
      chmod +x "$out/bin/makeWrapper"
    '';
    # Nothing that this machine's compiler makes names the store.
    nukeReferences = make "nuke-refs" { } ''
      mkdir -p "$out/bin"
      printf '#!/bin/bash\n' >"$out/bin/nuke-refs"
      chmod +x "$out/bin/nuke-refs"
    '';

    rustPlatform = {
      rustLibSrc = "/nonexistent";
      # For real, with this machine's cargo. What was compiled stays outside of the store, so that the next build need not
      # do it again; the source lies there too, at the same place each time, and only what differs is written: cargo goes by
      # path and time.
      buildRustPackage =
        set:
        dressed (make "${set.pname}-${set.version}"
          {
            PATH = "${lib.makeBinPath (set.nativeBuildInputs or [ ])}:${host.path}";
            CARGO_HOME = host.cargoHome;
            RUSTUP_HOME = host.rustupHome;
            CARGO_TARGET_DIR = host.cargoTarget;
            lock = set.cargoLock.lockFile;
            inherit (set.env) RUSTFLAGS;
          }
          ''
            here=$CARGO_TARGET_DIR/nix-source
            mkdir -p "$here"
            exec 9>"$here.lock"
            flock 9
            (cd ${set.src} && find . -type f -print0) | while IFS= read -rd "" file; do
              cmp -s "${set.src}/$file" "$here/$file" || install -D "${set.src}/$file" "$here/$file"
            done
            (cd "$here" && find . -type f -print0) | while IFS= read -rd "" file; do
              [ -e "${set.src}/$file" ] || rm "$here/$file"
            done
            cd "$here"
            cmp "$lock" Cargo.lock
            cargo build --locked --offline --release --target ${pkgs.stdenv.hostPlatform.rust.rustcTarget} \
              ${toString set.cargoBuildFlags}
            ${set.postBuild}
            mkdir -p "$out/bin"
            find "$CARGO_TARGET_DIR/${pkgs.stdenv.hostPlatform.rust.rustcTarget}/release" -maxdepth 1 -type f -executable \
              -exec cp -t "$out/bin" {} +
            ${set.postInstall}
          ''
        ) set;
    };

    dockerTools = {
      buildImage = image;
      buildLayeredImage = set: evaluatedOnly "docker-image-${set.name}" (describe set);
    };

    testers.runNixOSTest =
      test:
      let
        called = if lib.isFunction test then test { inherit lib pkgs; } else test;
        node =
          name: module:
          (import ./nixos.nix {
            inherit lib;
            packages = _: pkgs;
          })
            {
              inherit system;
              modules = [
                (called.defaults or { })
                module
                { networking.hostName = lib.mkDefault name; }
              ];
            };
        nodes = lib.mapAttrs node called.nodes;
        script =
          if lib.isFunction called.testScript then
            called.testScript { nodes = lib.mapAttrs (_: each: each.config) nodes; }
          else
            called.testScript;
      in
      make "vm-test-run-${called.name}-evaluated-only"
        {
          inherit script;
          units = lib.toJSON (lib.mapAttrs (_: each: each.config.system.build.evaluated) nodes);
          passAsFile = [
            "script"
            "units"
          ];
        }
        ''
          mkdir -p "$out"
          cp "$unitsPath" "$out/units.json"
          cp "$scriptPath" "$out/test-script.py"
          # No machine is started, but what is no Python would start none either.
          python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$out/test-script.py"
        '';

    glibc = make "glibc" { } ''mkdir -p "$out"'' // {
      static = make "glibc-static" { } ''mkdir -p "$out"'';
      bin = programs "glibc-bin" [
        "locale"
        "ldd"
      ];
    };
    glibcLocales = programs "glibc-locales" [ "locale" ];
    tzdata = make "tzdata" { } ''mkdir -p "$out"'';
    postgresql_17 = programs "postgresql" [
      "postgres"
      "initdb"
      "pg_ctl"
      "pg_isready"
      "psql"
      "pg_controldata"
      "pg_config"
    ];
    graphviz = one "dot";
    ffmpeg-headless = programs "ffmpeg" [
      "ffmpeg"
      "ffprobe"
    ];
    python3 = one "python3" // {
      withPackages =
        choose:
        evaluatedOnly "python3" (
          toString (choose {
            pip = "pip";
            virtualenv = "virtualenv";
          })
        );
    };
    coreutils = programs "coreutils" [
      "cat"
      "sleep"
    ];
    util-linux = one "setpriv";
    nix = programs "nix" [ "nix-instantiate" ];
    systemd = one "systemd-analyze";
    docker-client = one "docker";
    nixfmt-tree = one "nixfmt";
  }
  // lib.genAttrs [
    "bash"
    "cargo"
    "cargo-nextest"
    "chromium"
    "clippy"
    "curl"
    "deadnix"
    "jq"
    "netcat"
    "nixfmt"
    "rust-analyzer"
    "rustc"
    "rustfmt"
    "shellcheck"
  ] one;
in
pkgs
