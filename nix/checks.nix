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
  units =
    mesh:
    import ./tests/units.nix {
      inherit
        self
        nixpkgs
        lib
        pkgs
        system
        mesh
        ;
    };
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

  units = units shipped;
  units-small = units small;

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
