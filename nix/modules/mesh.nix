# A host's part of a mesh: the topology file and the hosts' addresses are all it takes.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  hopcast = config.services.hopcast;
  cfg = hopcast.mesh;
  plan = import ../topology.nix { inherit lib; } {
    file = cfg.topology;
    inherit (cfg) root;
  };
  host =
    plan.hosts.${cfg.host} or (throw ''
      services.hopcast.mesh.host is `${cfg.host}', which ${baseNameOf cfg.topology} has not: there are ${lib.concatStringsSep ", " (lib.attrNames plan.hosts)}.
    '');

  role =
    name: more:
    lib.mkIf (host.modules ? ${name}) ({ enable = true; } // host.modules.${name} or { } // more);

  # Every host's address in each of its networks.
  addresses = pkgs.writeText "hopcast-addresses.json" (
    lib.toJSON (
      lib.mapAttrs (
        name: each:
        let
          given =
            cfg.addresses.${name}
              or (throw "services.hopcast.mesh.addresses has no `${name}', a host of the topology file.");
        in
        if lib.isString given then lib.genAttrs each.networks (_: given) else given
      ) plan.hosts
    )
  );

  # Checked here, so that a wrong file never reaches a host. The result is used by its path; nothing of it is evaluated.
  configs =
    pkgs.runCommand "hopcast-${plan.mesh}-configs" { nativeBuildInputs = [ hopcast.package ]; }
      ''
        hopcast check --file ${plan.file}
        hopcast generate nixos-configs --file ${plan.file} --addresses ${addresses} -o "$out"
      '';
in
{
  options.services.hopcast.mesh = {
    enable = lib.mkEnableOption "this host's part of a hopcast mesh";
    topology = lib.mkOption {
      type = lib.types.path;
      example = lib.literalExpression "./topology.toml";
      description = ''
        The topology file. Songs and graphs that it names lie beside it. It is checked by `hopcast check` when the host's
        configuration is built.
      '';
    };
    root = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      description = "A directory above the file, where songs lie elsewhere than beside it.";
    };
    host = lib.mkOption {
      type = lib.types.str;
      default = config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      example = "peers-1";
      description = ''
        Which host of the mesh this is: `signalling`, the name of a database, or `peers-1` and so on up to the file's
        `nixos.peer_hosts`.
      '';
    };
    addresses = lib.mkOption {
      type = lib.types.attrsOf (lib.types.either lib.types.str (lib.types.attrsOf lib.types.str));
      example = {
        signalling = "192.0.2.10";
        edge-db-a = {
          edge-a-net = "198.51.100.11";
          origin-net = "203.0.113.11";
        };
      };
      description = "Every host's address: one, or one in each of the host's networks.";
    };
  };

  config = lib.mkIf cfg.enable {
    # Every role is named here: which ones are this host's is known only when the file is read.
    services.hopcast = {
      inherit configs;
      signalling = role "signalling" { };
      peers = role "peers" { };
      edge-db = role "edge-db" { };
      origin-db = role "origin-db" {
        topology = plan.file;
        inherit addresses;
      };
    };
  };
}
