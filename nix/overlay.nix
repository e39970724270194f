# The packages of this flake beside nixpkgs' own.
_: final: _prev:
let
  packages = import ./packages.nix {
    inherit (final) lib;
    pkgs = final;
  };
in
{
  inherit (packages) hopcast hopcast-peer hopcast-signalling;
  hopcastImages = {
    inherit (packages) peer-image signalling-image postgres-image;
  };
}
