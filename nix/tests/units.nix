# The systemd units of a mesh's hosts, as systemd itself reads them: it complains on stderr, and ends well all the same.
# scripts/nix-hosts runs what they say.
{
  self,
  nixpkgs,
  lib,
  pkgs,
  system,
  # The topology file, and a directory above it and its songs.
  mesh,
}:
let
  # The hosts, evaluated as any NixOS host is.
  hosts = lib.mapAttrs (
    name: module:
    nixpkgs.lib.nixosSystem {
      inherit system;
      modules = [
        (removeAttrs module [ "virtualisation" ])
        { networking.hostName = name; }
      ];
    }
  ) (self.lib.nodes (mesh // { keys = "/var/lib/hopcast-keys"; }));
  units = lib.concatMap (
    host:
    lib.mapAttrsToList (name: unit: {
      inherit name host;
      inherit (unit) text;
    }) (lib.filterAttrs (name: _: lib.hasPrefix "hopcast-" name) hosts.${host}.config.systemd.units)
  ) (lib.attrNames hosts);
  # What scripts/nix-hosts needs to know beside the units.
  targets =
    let
      plan = self.lib.topology mesh;
      who = import ./who.nix { inherit lib plan; };
      inherit (hosts.${who.origin}.config.services.hopcast.mesh) addresses;
      at = edge: addresses.${edge}.${who.edge.${edge}.network};
    in
    pkgs.writeText "targets.json" (
      lib.toJSON {
        inherit (plan) file;
        inherit (who) origin victim;
        inherit addresses;
        peers = lib.genAttrs who.peers (host: plan.hosts.${host}.modules.peers.instances);
        gateways = lib.concatMap (
          edge:
          map (host: [
            host
            (at edge)
          ]) who.edge.${edge}.gateways
        ) who.edges;
        # The origin is in the peers' network, too, where its firewall closes it: there is none here.
        strangers =
          lib.concatMap (
            edge:
            map (host: [
              host
              edge
              (at edge)
            ]) who.edge.${edge}.strangers
          ) who.edges
          ++ map (host: [
            host
            who.origin
            addresses.${who.origin}.${lib.head plan.hosts.${who.origin}.networks}
          ]) who.peers;
      }
    );
in
pkgs.runCommand "hopcast-units" { nativeBuildInputs = [ pkgs.systemd ]; } ''
  ${lib.concatMapStrings (unit: ''
    mkdir -p ${unit.host}
    cp ${pkgs.writeText "unit" unit.text} ${unit.host}/${unit.name}
    chmod u+w ${unit.host}/${unit.name}
  '') units}
  for host in ${toString (lib.unique (map (unit: unit.host) units))}; do
    # Units of NixOS that these name are not at hand here.
    printf '[Service]\nType=oneshot\nExecStart=/bin/sh\n' | tee "$host/postgresql.service" >/dev/null
    printf '[Unit]\nRequires=postgresql.service\n' >"$host/postgresql.target"
    (
      cd "$host"
      mv hopcast-peer@.service hopcast-peer@peer-1.service 2>/dev/null || true
      SYSTEMD_UNIT_PATH=$PWD: systemd-analyze verify --man=no ./hopcast-* 2>&1 | tee complaints
      [ ! -s complaints ]
    )
  done
  ${lib.concatMapStrings (host: ''
    cp ${
      pkgs.writeText "postgresql.json" (
        lib.toJSON (lib.mapAttrs (_: toString) hosts.${host}.config.services.postgresql.settings)
      )
    } ${host}/postgresql.json
  '') (lib.filter (host: hosts.${host}.config.services.postgresql.enable) (lib.attrNames hosts))}
  cp ${targets} targets.json
  cp -r . "$out"
''
