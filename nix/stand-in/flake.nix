{
  description = "A stand-in for nixpkgs, for hopcast's own tests: see README.md";

  outputs =
    _:
    let
      lib = import ./lib.nix;
      host = import ./host.nix;
      packages = system: import ./packages.nix { inherit lib host system; };
    in
    {
      lib = lib // {
        nixosSystem = import ./nixos.nix { inherit lib packages; };
      };
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] packages;
    };
}
