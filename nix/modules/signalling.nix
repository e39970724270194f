# The signalling server.
{ config, lib, ... }:
let
  hopcast = config.services.hopcast;
  cfg = hopcast.signalling;
in
{
  options.services.hopcast.signalling = {
    enable = lib.mkEnableOption "hopcast's signalling server";
    port = lib.mkOption {
      type = lib.types.port;
      default = 7080;
      description = "The port that its file says: it is opened.";
    };
    networks = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      description = "The networks in which it is reached.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.hopcast.ports = lib.genAttrs cfg.networks (_: [ cfg.port ]);
    systemd.services.hopcast-signalling = {
      description = "hopcast signalling server";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      serviceConfig = import ./hardening.nix // {
        ExecStart = "${hopcast.package}/bin/hopcast-signalling --config ${hopcast.configs}/signalling.json --keys %d/keys";
        LoadCredential = "keys:${hopcast.keys}/signalling.json";
        # A file that is wrong stays wrong.
        Restart = "on-failure";
        RestartPreventExitStatus = 64;
        RestartSec = 1;
        LimitNOFILE = 65536;
      };
    };
  };
}
