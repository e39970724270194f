# What cargo needs of this directory, and nothing else: a changed README builds nothing anew.
{ lib }:
lib.fileset.toSource {
  root = ./..;
  fileset = lib.fileset.unions [
    ../.config
    ../Cargo.lock
    ../Cargo.toml
    ../crates
    ../rustfmt.toml
    ../scripts
    ../songs
    ../topology.toml
    # The crates' documentation and tests refer to them.
    ../README.md
    ../docs
  ];
}
