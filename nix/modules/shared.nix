# The options that all roles share.
{ self }:
{
  key = "hopcast-shared";
  imports = [
    (
      {
        config,
        lib,
        pkgs,
        ...
      }:
      {
        options.services.hopcast = {
          package = lib.mkOption {
            type = lib.types.package;
            default = self.packages.${pkgs.stdenv.hostPlatform.system}.hopcast.programs;
            defaultText = lib.literalExpression "hopcast.packages.\${system}.hopcast.programs";
            description = "The package with the programs hopcast, hopcast-peer and hopcast-signalling.";
          };
          configs = lib.mkOption {
            type = lib.types.path;
            example = lib.literalExpression "./configs";
            description = ''
              The directory that `hopcast generate nixos-configs` writes: the nodes' files without their secrets. The module
              `mesh` makes it.
            '';
          };
          keys = lib.mkOption {
            type = lib.types.str;
            default = "/var/lib/hopcast-keys";
            description = ''
              The directory with this host's keys, as `hopcast generate nixos-keys` writes it. A string, so that it stays
              outside of the store; root's, 0700. Units get their own file of it through LoadCredential.
            '';
          };
          interfaces = lib.mkOption {
            type = lib.types.attrsOf lib.types.str;
            default = { };
            example = {
              micro-net = "eth1";
            };
            description = ''
              This host's interface in each network of the topology file. Ports are opened on the interface of the network
              that they are for; for a network without one, on all.
            '';
          };
          openFirewall = lib.mkOption {
            type = lib.types.bool;
            default = true;
            description = "Whether to open the ports that the plan needs, and no others.";
          };
          # What the roles want opened: ports by network.
          ports = lib.mkOption {
            type = lib.types.attrsOf (lib.types.listOf lib.types.port);
            default = { };
            internal = true;
            description = "The ports that this host's roles listen on, by network.";
          };
        };

        config.networking.firewall =
          let
            inherit (config.services.hopcast) interfaces openFirewall ports;
            known = lib.filterAttrs (network: _: interfaces ? ${network}) ports;
            unknown = lib.filterAttrs (network: _: !(interfaces ? ${network})) ports;
          in
          lib.mkIf openFirewall {
            allowedTCPPorts = lib.unique (lib.concatLists (lib.attrValues unknown));
            interfaces = lib.mkMerge (
              lib.mapAttrsToList (network: allowedTCPPorts: {
                ${interfaces.${network}} = { inherit allowedTCPPorts; };
              }) known
            );
          };
      }
    )
  ];
}
