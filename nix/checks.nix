# `nix flake check`: what scripts/test checks, and the whole mesh in VMs.
{
  self,
  nixpkgs,
  lib,
  pkgs,
  system,
  ...
}:
let
  inherit (self.packages.${system}.hopcast) programs;
  shipped = {
    file = ../topology.toml;
    root = ../.;
  };
  small = {
    file = ./tests/small.toml;
    root = ../.;
  };
  topologies = map self.lib.topology [
    shipped
    small
  ];

  # A run of cargo over the same source and dependencies as the programs.
  cargo =
    name: tools: phase:
    programs.overrideAttrs (old: {
      pname = "hopcast-${name}";
      # Tests read the documentation, play the songs and run the scripts.
      src = import ./source.nix {
        inherit lib;
        more = [
          ../.config
          ../README.md
          ../docs
          ../rustfmt.toml
          ../scripts
          ../songs
        ];
      };
      nativeBuildInputs = old.nativeBuildInputs ++ tools;
      # Nothing that is only tested need be static.
      env = old.env // {
        RUSTFLAGS = "";
      };
      buildPhase = ''
        runHook preBuild
        ${phase}
      '';
      installPhase = ''
        touch "$out"
      '';
    });
  vm =
    arguments:
    pkgs.testers.runNixOSTest (
      import ./tests/mesh.nix (
        {
          inherit
            self
            lib
            pkgs
            system
            ;
        }
        // arguments
      )
    );

  # The hosts of the small mesh, evaluated as any NixOS host is.
  hosts = lib.mapAttrs (
    name: module:
    nixpkgs.lib.nixosSystem {
      inherit system;
      modules = [
        (removeAttrs module [ "virtualisation" ])
        { networking.hostName = name; }
      ];
    }
  ) (self.lib.nodes (small // { keys = "/var/lib/hopcast-keys"; }));
  units = lib.concatMap (
    host:
    lib.mapAttrsToList (name: unit: {
      inherit name host;
      inherit (unit) text;
    }) (lib.filterAttrs (name: _: lib.hasPrefix "hopcast-" name) hosts.${host}.config.systemd.units)
  ) (lib.attrNames hosts);
  # What scripts/nix-hosts needs to know beside the units.
  targets =
    let
      plan = self.lib.topology small;
      who = import ./tests/who.nix { inherit lib plan; };
      inherit (hosts.${who.origin}.config.services.hopcast.mesh) addresses;
      at = edge: addresses.${edge}.${who.edge.${edge}.network};
    in
    pkgs.writeText "targets.json" (
      lib.toJSON {
        inherit (plan) file;
        inherit (who) origin victim;
        inherit addresses;
        peers = lib.genAttrs who.peers (host: plan.hosts.${host}.modules.peers.instances);
        gateways = lib.concatMap (
          edge:
          map (host: [
            host
            (at edge)
          ]) who.edge.${edge}.gateways
        ) who.edges;
        # The origin is in the peers' network, too, where its firewall closes it: there is none here.
        strangers =
          lib.concatMap (
            edge:
            map (host: [
              host
              edge
              (at edge)
            ]) who.edge.${edge}.strangers
          ) who.edges
          ++ map (host: [
            host
            who.origin
            addresses.${who.origin}.${lib.head plan.hosts.${who.origin}.networks}
          ]) who.peers;
      }
    );
in
{
  fmt = cargo "fmt" [ pkgs.rustfmt ] "cargo fmt --all --check";
  clippy = cargo "clippy" [ pkgs.clippy ] ''
    cargo clippy --locked --offline --workspace --all-targets -- -D warnings
  '';
  test =
    cargo "test"
      [
        pkgs.cargo-nextest
        pkgs.ffmpeg-headless
        pkgs.graphviz
        pkgs.postgresql_17
        pkgs.python3
        pkgs.util-linux
      ]
      ''
        cargo build --locked --offline --workspace --bins --examples
        cargo nextest run --locked --offline --workspace
        cargo test --locked --offline --workspace --doc
      '';
  docs = cargo "docs" [ ] ''
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --offline --workspace --no-deps
  '';

  topologies = pkgs.runCommand "hopcast-topologies" { nativeBuildInputs = [ programs ]; } ''
    ${lib.concatMapStrings (plan: "hopcast check --file ${plan.file}\n") topologies}
    touch "$out"
  '';

  # What the generator prints is what the modules make of the file.
  generator =
    let
      compare = plan: ''
        hopcast generate nixos --file ${plan.file} >printed.nix
        nix-instantiate --eval --strict --json --store dummy:// printed.nix | jq -S . >printed.json
        echo ${
          lib.escapeShellArg (
            lib.toJSON (
              lib.mapAttrs (_: host: {
                services.hopcast = lib.mapAttrs (_: module: module // { enable = true; }) host.modules;
              }) plan.hosts
            )
          )
        } | jq -S . >evaluated.json
        diff evaluated.json printed.json
      '';
    in
    pkgs.runCommand "hopcast-generator"
      {
        nativeBuildInputs = [
          programs
          pkgs.jq
          pkgs.nix
        ];
      }
      ''
        ${lib.concatMapStrings compare topologies}
        touch "$out"
      '';

  # systemd's own reading of every unit: it complains on stderr, and ends well all the same.
  units = pkgs.runCommand "hopcast-units" { nativeBuildInputs = [ pkgs.systemd ]; } ''
    ${lib.concatMapStrings (unit: ''
      mkdir -p ${unit.host}
      cp ${pkgs.writeText "unit" unit.text} ${unit.host}/${unit.name}
      chmod u+w ${unit.host}/${unit.name}
    '') units}
    for host in ${toString (lib.unique (map (unit: unit.host) units))}; do
      # Units of NixOS that these name are not at hand here.
      printf '[Service]\nType=oneshot\nExecStart=/bin/sh\n' | tee "$host/postgresql.service" >/dev/null
      printf '[Unit]\nRequires=postgresql.service\n' >"$host/postgresql.target"
      (
        cd "$host"
        mv hopcast-peer@.service hopcast-peer@peer-1.service 2>/dev/null || true
        SYSTEMD_UNIT_PATH=$PWD: systemd-analyze verify --man=no ./hopcast-* 2>&1 | tee complaints
        [ ! -s complaints ]
      )
    done
    ${lib.concatMapStrings (host: ''
      cp ${
        pkgs.writeText "postgresql.json" (
          lib.toJSON (lib.mapAttrs (_: toString) hosts.${host}.config.services.postgresql.settings)
        )
      } ${host}/postgresql.json
    '') (lib.filter (host: hosts.${host}.config.services.postgresql.enable) (lib.attrNames hosts))}
    cp ${targets} targets.json
    cp -r . "$out"
  '';

  mesh-small = vm (
    {
      name = "mesh-small";
      memory = 512;
    }
    // small
  );
  mesh = vm (
    {
      name = "mesh";
      memory = 2048;
    }
    // shipped
  );
}
