# What origin and edges have in common: a PostgreSQL cluster with the plan's rules and settings, and its owner.
{
  config,
  lib,
  cfg,
  what,
}:
let
  hopcast = config.services.hopcast;
  files = "${hopcast.configs}/${cfg.name}";
in
{
  options = {
    enable = lib.mkEnableOption "hopcast's ${what} database";
    name = lib.mkOption {
      type = lib.types.str;
      example = "${what}-db";
      description = "Its name in the topology file.";
    };
    database = lib.mkOption {
      type = lib.types.str;
      default = "hls";
      description = "The database that holds the songs.";
    };
    owner = lib.mkOption {
      type = lib.types.str;
      default = "media";
      description = "Its owner, a superuser of the cluster.";
    };
    port = lib.mkOption {
      type = lib.types.port;
      default = 5432;
      description = "The port that it listens on.";
    };
    networks = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      description = "The networks in which it is reached.";
    };
  };

  config = {
    services.hopcast.ports = lib.genAttrs cfg.networks (_: [ cfg.port ]);
    services.postgresql = {
      enable = true;
      enableTCPIP = true;
      # As on every other backend, whatever this host's language is.
      initdbArgs = [
        "--encoding=UTF8"
        "--locale=C"
      ];
      settings = {
        inherit (cfg) port;
        # Who may connect, from where and how often follows from the plan.
        hba_file = lib.mkForce "${files}/pg_hba.conf";
        include = "${files}/postgresql.conf";
      };
    };
    systemd.services.hopcast-database-owner = {
      description = "hopcast: the owner of database ${cfg.name}";
      wantedBy = [ "multi-user.target" ];
      requires = [ "postgresql.target" ];
      after = [ "postgresql.target" ];
      path = [ config.services.postgresql.finalPackage ];
      environment.PGPORT = toString cfg.port;
      # The password goes from its file to the server, over no command line.
      script = ''
        psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=owner=${lib.escapeShellArg cfg.owner} --dbname=postgres <<'SQL'
        \set password `head -n 1 "$CREDENTIALS_DIRECTORY/owner-password"`
        SELECT format('CREATE ROLE %I', :'owner') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner') \gexec
        ALTER ROLE :"owner" SUPERUSER LOGIN PASSWORD :'password';
        SQL
      '';
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        User = "postgres";
        LoadCredential = "owner-password:${hopcast.keys}/owner-password";
        CapabilityBoundingSet = "";
        NoNewPrivileges = true;
        PrivateDevices = true;
        PrivateTmp = true;
        ProtectHome = true;
        ProtectSystem = "strict";
        RestrictAddressFamilies = "AF_UNIX";
      };
    };
  };
}
