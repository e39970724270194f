# The NixOS modules: one for each role, and `mesh`, which gives a host its roles by a topology file.
{ self }:
let
  shared = import ./shared.nix { inherit self; };
  # A key, so that a module that several of them import counts once.
  role = name: {
    key = "hopcast-${name}";
    imports = [
      shared
      (./. + "/${name}.nix")
    ];
  };
in
rec {
  signalling = role "signalling";
  peers = role "peers";
  edge-db = role "edge-db";
  origin-db = role "origin-db";
  mesh = {
    key = "hopcast-mesh";
    imports = [
      signalling
      peers
      edge-db
      origin-db
      ./mesh.nix
    ];
  };
  default = mesh;
}
