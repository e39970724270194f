# What cargo needs of this directory, and nothing else: a changed README builds no program anew.
{
  lib,
  # More than the programs are made of.
  more ? [ ],
}:
lib.fileset.toSource {
  root = ./..;
  fileset = lib.fileset.unions (
    [
      ../Cargo.lock
      ../Cargo.toml
      ../crates
      # `hopcast init` has it in it.
      ../topology.toml
    ]
    ++ more
  );
}
