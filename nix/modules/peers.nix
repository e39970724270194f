# Peers: one template unit, an instance for each peer of this host, and a target that wants them all.
{ config, lib, ... }:
let
  hopcast = config.services.hopcast;
  cfg = hopcast.peers;
in
{
  options.services.hopcast.peers = {
    enable = lib.mkEnableOption "hopcast's peers on this host";
    instances = lib.mkOption {
      type = lib.types.attrsOf lib.types.port;
      default = { };
      example = {
        peer-1 = 8081;
      };
      description = "The peers of this host, each with the port that its file says: it is opened.";
    };
    networks = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      description = "The networks in which they are reached.";
    };
    memoryMax = lib.mkOption {
      type = lib.types.ints.positive;
      default = 15728640;
      description = "The hard cap of each peer's memory, in bytes.";
    };
    cpuQuota = lib.mkOption {
      type = lib.types.str;
      default = "5%";
      description = "The share of one CPU that each peer may take, as systemd's CPUQuota.";
    };
    tasksMax = lib.mkOption {
      type = lib.types.ints.positive;
      default = 50;
      description = "The most processes and threads of each peer.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.hopcast.ports = lib.genAttrs cfg.networks (_: lib.attrValues cfg.instances);
    systemd.services."hopcast-peer@" = {
      description = "hopcast peer %i";
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # `systemctl stop hopcast-peers.target` stops them all.
      partOf = [ "hopcast-peers.target" ];
      serviceConfig = import ./hardening.nix // {
        ExecStart = "${hopcast.package}/bin/hopcast-peer --config ${hopcast.configs}/peers/%i.json --keys %d/keys";
        LoadCredential = "keys:${hopcast.keys}/%i.json";
        # 64: a file that is wrong stays wrong. 75: another process took this peer's name, and has it now.
        Restart = "on-failure";
        RestartPreventExitStatus = "64 75";
        RestartSec = 1;
        CPUQuota = cfg.cpuQuota;
        MemoryMax = toString cfg.memoryMax;
        TasksMax = cfg.tasksMax;
      };
    };
    systemd.targets.hopcast-peers = {
      description = "hopcast peers of this host";
      wantedBy = [ "multi-user.target" ];
      wants = map (name: "hopcast-peer@${name}.service") (lib.attrNames cfg.instances);
    };
  };
}
