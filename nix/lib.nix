# For whoever builds hosts of a mesh with this flake.
{ self, nixpkgs }:
let
  inherit (nixpkgs) lib;
in
rec {
  # What a topology file means: its networks, its hosts, and the options that each host's modules get. { file, root ? null }
  topology = import ./topology.nix { inherit lib; };

  # One module for each host, numbered through: host n of the file has address <prefix>.<network>.<n> in each of its networks,
  # on the interfaces eth1 and so on, as the machines of a NixOS test have them.
  nodes =
    {
      file,
      keys,
      root ? null,
      prefix ? "192.168",
    }:
    let
      plan = topology { inherit file root; };
      names = lib.attrNames plan.hosts;
      numbers = lib.listToAttrs (lib.imap1 (number: name: lib.nameValuePair name number) names);
      networks = lib.listToAttrs (
        lib.imap1 (number: network: lib.nameValuePair network number) plan.networks
      );
      address = name: network: "${prefix}.${toString networks.${network}}.${toString numbers.${name}}";
      addresses = lib.mapAttrs (name: host: lib.genAttrs host.networks (address name)) plan.hosts;
    in
    lib.mapAttrs (name: host: {
      imports = [ self.nixosModules.mesh ];
      services.hopcast = {
        keys = "${keys}/${name}";
        interfaces = lib.listToAttrs (
          lib.imap1 (number: network: lib.nameValuePair network "eth${toString number}") host.networks
        );
        mesh = {
          enable = true;
          topology = file;
          inherit root;
          host = name;
          inherit addresses;
        };
      };
      virtualisation.vlans = map (network: networks.${network}) host.networks;
      system.stateVersion = "26.05";
    }) plan.hosts;
}
