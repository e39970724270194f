# The three programs, static, from one cargo build: a peer that maps no shared library is a smaller peer. The same flags and
# profiles as `build_release` in scripts/lib.sh.
{ lib, pkgs }:
let
  static = "-C target-feature=+crt-static";
  triple = pkgs.stdenv.hostPlatform.rust.rustcTarget;
in
pkgs.rustPlatform.buildRustPackage {
  pname = "hopcast-programs";
  inherit ((lib.importTOML ../Cargo.toml).workspace.package) version;
  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ pkgs.nukeReferences ];
  buildInputs = [ pkgs.glibc.static ];
  # The list of dependencies would make up a tenth of each peer.
  auditable = false;
  env.RUSTFLAGS = static;
  cargoBuildFlags = [
    "-p"
    "hopcast-cli"
    "-p"
    "hopcast-signalling"
  ];
  # The peers' own profile and flags (packed relocations: 100 kB less of each peer's memory).
  postBuild = ''
    RUSTFLAGS="${static} -C force-unwind-tables=no -C link-arg=-Wl,-z,pack-relative-relocs" \
      cargo build --locked --offline --profile peer --target ${triple} -p hopcast-peer
  '';
  # libc names directories that it looks into for locales; an image that holds these names would hold all of libc.
  postInstall = ''
    install -Dm755 -t "$out/bin" "''${CARGO_TARGET_DIR:-target}/${triple}/peer/hopcast-peer"
    nuke-refs "$out"/bin/*
  '';
  # The tests need ffmpeg, PostgreSQL and processes of their own: they are a check of the flake.
  doCheck = false;

  meta = {
    description = "The programs of hopcast, a peer-assisted song delivery network";
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "hopcast";
  };
}
