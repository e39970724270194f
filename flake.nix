{
  description = "hopcast: a peer-assisted song delivery network that one file describes";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      each = nixpkgs.lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
      # What every file below nix/ that makes something for one system is given.
      per =
        file:
        each (
          system:
          import file {
            inherit self nixpkgs system;
            inherit (nixpkgs) lib;
            pkgs = nixpkgs.legacyPackages.${system};
          }
        );
    in
    {
      packages = per ./nix/packages.nix;
      apps = per ./nix/apps.nix;
      devShells = per ./nix/dev-shell.nix;
      formatter = per ./nix/formatter.nix;
      checks = per ./nix/checks.nix;
      overlays.default = import ./nix/overlay.nix { inherit self; };
      nixosModules = import ./nix/modules { inherit self; };
      lib = import ./nix/lib.nix { inherit self nixpkgs; };
    };
}
