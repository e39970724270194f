# The origin database, and the unit that sets all databases up and stores the songs.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  hopcast = config.services.hopcast;
  cfg = hopcast.origin-db;
  database = import ./database.nix {
    inherit config lib cfg;
    what = "origin";
  };
in
{
  options.services.hopcast.origin-db = database.options // {
    topology = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      description = ''
        The topology file, with the songs that it names beside it: `hopcast populate` stores them. Without it somebody else
        runs that command.
      '';
    };
    addresses = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      description = "The file of the hosts' addresses.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      database.config
      (lib.mkIf (cfg.topology != null) {
        systemd.services.hopcast-populate = {
          description = "hopcast: schema, replication and songs of all databases";
          wantedBy = [ "multi-user.target" ];
          wants = [ "network-online.target" ];
          requires = [ "hopcast-database-owner.service" ];
          after = [
            "hopcast-database-owner.service"
            "network-online.target"
          ];
          # An audio file is made into segments on the way.
          path = [ pkgs.ffmpeg-headless ];
          serviceConfig = import ./hardening.nix // {
            Type = "oneshot";
            RemainAfterExit = true;
            ExecStart = "${hopcast.package}/bin/hopcast populate --file ${cfg.topology} --addresses ${cfg.addresses} --keys %d";
            LoadCredential = [
              "owner-password:${hopcast.keys}/owner-password"
              "secret:${hopcast.keys}/secret"
            ];
            # An edge may come up later than this host.
            Restart = "on-failure";
            RestartSec = 5;
          };
        };
      })
    ]
  );
}
